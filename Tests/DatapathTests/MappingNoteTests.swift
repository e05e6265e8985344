import Addresses
import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// New flows to one port, one after another: each finds the mapping that was noted for the one before.
@Suite struct MappingNoteTests {
    /// A change of a note after which it is none of the next packet's mapping.
    struct Change: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let apply: @Sendable (inout mapping_note) -> Void

        static let all = [
            Change(testDescription: "first word of the destination") { $0.destination.words.0 ^= 1 },
            Change(testDescription: "second word of the destination") { $0.destination.words.1 ^= 1 },
            Change(testDescription: "third word of the destination") { $0.destination.words.2 ^= 1 },
            Change(testDescription: "last word of the destination") { $0.destination.words.3 ^= 1 },
            Change(testDescription: "port") { $0.destination_port ^= 1 },
            Change(testDescription: "protocol") { $0.protocol ^= 1 },
            Change(testDescription: "version") { $0.version &-= 1 },
            Change(testDescription: "age") { $0.noted &-= 1_000 },
        ]
    }

    /// How packets have come in, changed.
    static let arrivals = [
        Change(testDescription: "interface") { $0.arrival.ifindex ^= 1 },
        Change(testDescription: "MAC address") { $0.arrival.mac.5 ^= 1 },
        Change(testDescription: "age") { $0.arrival.noted &-= 1_000 },
    ]

    /// Whom they have come from, changed.
    static let clients = [
        Change(testDescription: "first word of the address") { $0.client.address.words.0 ^= 1 },
        Change(testDescription: "second word of the address") { $0.client.address.words.1 ^= 1 },
        Change(testDescription: "third word of the address") { $0.client.address.words.2 ^= 1 },
        Change(testDescription: "last word of the address") { $0.client.address.words.3 ^= 1 },
        Change(testDescription: "interface") { $0.client.ifindex ^= 1 },
        Change(testDescription: "age") { $0.client.noted &-= 1_000 },
    ]

    /// Not the target's, nor of any other mapping.
    private static let otherPort: UInt16 = 8_181

    private func another(_ kind: Kind, _ port: UInt16) -> Conversation {
        Conversation(kind).with { $0.client.port = port }
    }

    /// A datapath on which a flow has begun at once, and what was noted then, led elsewhere.
    private func noted(_ hook: Hook, _ kind: Kind) throws -> (datapath: TestDatapath, note: mapping_note) {
        let datapath = try TestDatapath()
        try datapath.open(Conversation(kind))
        try datapath.noteArrivals(kind.family, at: hook)
        let first = another(kind, 40_001)
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(first, first.request(.syn), at: hook)
        }
        var note = try #require(try datapath.mappingNotes().first { $0.noted != 0 })
        note.mapping.target_port = Self.otherPort.bigEndian
        return (datapath, note)
    }

    /// Expects that the next flow, begun at once where this was noted just now, but for a change, comes to this port.
    private func expectNext(
        _ datapath: TestDatapath, _ note: mapping_note, but change: Change? = nil, _ hook: Hook, _ kind: Kind,
        targetPort: UInt16
    ) throws {
        let next = another(kind, 40_002).with { $0.target.port = targetPort }
        var note = note
        try datapath.noteArrivals(kind.family, at: hook)
        note.noted = UInt32(truncatingIfNeeded: monotonicNow() >> 20) &- 50  // a CPU's clock is a tick behind
        change?.apply(&note)
        try datapath.setMappingNotes(note)
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(next, next.request(.syn), at: hook)
        }
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a packet to the port of the one before gets its mapping`(hook: Hook, kind: Kind) throws {
        let (datapath, note) = try noted(hook, kind)
        try expectNext(datapath, note, hook, kind, targetPort: Self.otherPort)
    }

    @Test(arguments: Hook.allCases, Change.all)
    func `what was noted is of one destination, one state of the mappings, and good for less than a second`(
        hook: Hook, change: Change
    ) throws {
        for kind in Kind.all {
            let (datapath, note) = try noted(hook, kind)
            try expectNext(datapath, note, but: change, hook, kind, targetPort: Conversation(kind).target.port)
            let looked = try datapath.mappingNotes().first { $0.mapping.target_port != note.mapping.target_port }
            #expect(looked?.mapping.target_port == Conversation(kind).target.port.bigEndian)
        }
    }

    /// Has every CPU know of this note, as of just now but for a change, and of nothing else but ways.
    private func noteAlone(_ datapath: TestDatapath, _ note: mapping_note, but change: Change? = nil) throws {
        let now = UInt32(truncatingIfNeeded: monotonicNow() >> 20) &- 50
        var note = note
        (note.noted, note.arrival.noted, note.client.noted) = (now, now, now)
        change?.apply(&note)
        try datapath.setNextHops(.fresh)
        try datapath.forget()
        try datapath.setMappingNotes(note)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `how packets come to a mapping is noted with it, as is when the older of what says so was noted`(
        hook: Hook, kind: Kind
    ) throws {
        let (datapath, note) = try noted(hook, kind)
        let next = another(kind, 40_002).with { $0.target.port = Self.otherPort }
        for change in Self.arrivals {
            try noteAlone(datapath, note, but: change)
            try datapath.withoutAdmission(at: hook) { try datapath.expectPassed(next.request(.syn), at: hook) }
        }
        try noteAlone(datapath, note)
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(next, next.request(.syn), at: hook)
        }
        for (index, ages) in [(UInt32(50), UInt32(400)), (400, 50)].enumerated() {
            let host = ArrivalNote(address: kind.family.host, age: ages.0, addressAge: ages.1)
            try datapath.noteAlone(host, at: hook)
            let another = another(kind, 40_010 + UInt16(index))
            try datapath.withoutAdmission(at: hook) {
                try datapath.expectForwarded(another, another.request(.syn), at: hook)
            }
            let found = try #require(try datapath.mappingNotes().first { $0.noted != 0 })
            #expect(found.noted &- found.arrival.noted >= 390)
        }
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a client is noted with its mapping`(hook: Hook, kind: Kind) throws {
        var (datapath, note) = try noted(hook, kind)
        note.mapping.target_port = Conversation(kind).target.port.bigEndian
        let host = another(kind, 40_002).with { $0.client.address = kind.family.host }  // nobody is let who says so
        note.client.address = CDatapath.address(try IPAddress(parsing: "\(host.client.address)"))
        note.client.ifindex = note.arrival.ifindex
        for change in Self.clients {
            try noteAlone(datapath, note, but: change)
            try datapath.withoutAdmission(at: hook) { try datapath.expectPassed(host.request(.syn), at: hook) }
        }
        try noteAlone(datapath, note)
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(host, host.request(.syn), at: hook)
        }
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a client that comes again is noted`(hook: Hook, kind: Kind) throws {
        let (datapath, first) = try noted(hook, kind)
        #expect(first.client.ifindex == 0 && first.arrival.ifindex != 0)
        for number in 0...UInt16(try datapath.mappingNotes().count) {  // more flows than CPUs
            let next = another(kind, 40_002 + number)
            try datapath.withoutAdmission(at: hook) {
                try datapath.expectForwarded(next, next.request(.syn), at: hook)
            }
        }
        let notes = try datapath.mappingNotes().filter { $0.noted != 0 }
        #expect(notes.contains { $0.client.ifindex == $0.arrival.ifindex })
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a mapping that has changed leads where it leads now`(hook: Hook, kind: Kind) throws {
        let (datapath, note) = try noted(hook, kind)
        let replaced = kind.family.mapping("8080/\(kind.transport)", to: "81")
        try datapath.datapath.replaceMappings([try PortMapping(parsing: replaced)])
        try datapath.open(another(kind, 40_003).with { $0.target.port = 81 })
        try expectNext(datapath, note, hook, kind, targetPort: 81)
        try datapath.datapath.removeAllMappings()
        try datapath.expectPassed(another(kind, 40_004).request(.syn), at: hook)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `flows to ports and addresses in turn come to their own targets`(hook: Hook, kind: Kind) throws {
        let family = kind.family
        let datapath = try TestDatapath([
            family.mapping("8080/\(kind.transport)", to: "80"), family.mapping("8081/\(kind.transport)", to: "81"),
            family.mapping("8080/\(kind.transport)", to: "82", on: family.otherHost),
            family.mapping("8090-8099/\(kind.transport)", to: "90-99"),
        ])
        let ways = [
            (family.host, UInt16(8080), UInt16(80)), (family.host, 8081, 81), (family.otherHost, 8080, 82),
            (family.host, 8090, 90), (family.host, 8092, 92), (family.host, 8092, 92), (family.host, 8080, 80),
        ]
        func conversation(_ number: Int, from first: UInt16) -> Conversation {
            Conversation(kind).with {
                $0.client.port = first + UInt16(number)
                $0.published = Packet.Endpoint(ways[number].0, port: ways[number].1)
                $0.target.port = ways[number].2
            }
        }
        for number in ways.indices { try datapath.open(conversation(number, from: 40_000)) }
        for number in ways.indices {
            let next = conversation(number, from: 50_000)
            try datapath.noteArrivals(family, at: hook)
            try datapath.withoutAdmission(at: hook) {
                try datapath.expectForwarded(next, next.request(.syn), at: hook)
            }
        }
    }
}
