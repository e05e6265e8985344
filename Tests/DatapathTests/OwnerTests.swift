import Addresses
import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Mappings that belong to somebody, and how they are replaced.
@Suite struct OwnerTests {
    @Test(arguments: Kind.all, [1, 2, 3, 4] as [UInt64])
    func `while mappings are replaced, every packet meets what was or what will be`(kind: Kind, seed: UInt64) throws {
        var random = Generator(seed: seed)
        let datapath = try TestDatapath([])
        var before = MappingModel(kind: kind)
        for _ in 0..<6 {
            let after = try MappingModel(kind: kind, changing: before, &random)
            let ports = (before.ports(&random) + after.ports(&random)).shuffled(using: &random).prefix(40)
            let change = try MappingChange(
                leaving: .one, with: after.mappings, among: try datapath.maps.mappingEntries())
            try datapath.maps.noteChange { $0.note(before.mappings + after.mappings) }
            for step in try datapath.maps.steps(of: change) {
                try datapath.maps.take(step)
                try datapath.expectLookups(of: Array(ports), as: before, or: after)
            }
            try datapath.maps.noteChange { $0.note(after.mappings) }
            #expect(Set(try datapath.mappings(of: .one)) == Set(after.mappings))
            before = after
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `a replacement that is killed after any step is completed by the next`(seed: UInt64) throws {
        var random = Generator(seed: seed)
        let kind = Kind.all[0]
        let datapath = try TestDatapath([])
        var before = MappingModel(kind: kind)
        for _ in 0..<20 {
            let after = try MappingModel(kind: kind, changing: before, &random)
            let change = try MappingChange(
                leaving: .one, with: after.mappings, among: try datapath.maps.mappingEntries())
            try datapath.maps.noteChange { $0.note(before.mappings + after.mappings) }
            let steps = try datapath.maps.steps(of: change)
            for step in steps.prefix(.random(in: 0...steps.count, using: &random)) { try datapath.maps.take(step) }

            try datapath.datapath.replaceMappings(of: .one, with: after.mappings)
            #expect(Set(try datapath.mappings(of: .one)) == Set(after.mappings))
            let present = try datapath.maps.mappingEntries()
            #expect(Set(try datapath.maps.owners.keys()) == Set(present.map(\.id)))
            #expect(try datapath.maps.sources.keys().count == present.map(\.mapping.allow.count).reduce(0, +))
            before = after
        }
    }

    @Test(arguments: Kind.all)
    func `mappings that stay keep their flows and counters`(kind: Kind) throws {
        let family = kind.family
        let (kept, old, new) = (
            family.mapping("8080/\(kind.transport)", to: "80"), family.mapping("9000/\(kind.transport)", to: "90"),
            family.mapping("9000/\(kind.transport)", to: "91")
        )
        let datapath = try TestDatapath([])
        try datapath.replaceMappings(of: .one, with: [kept, old])
        let conversation = Conversation(kind)
        let other = Conversation(kind).with {
            $0.published.port = 9000
            $0.target.port = 90
            $0.client.port = 999
        }
        try datapath.open(conversation)
        try datapath.open(other)
        let before = try datapath.datapath.mappings()

        try datapath.replaceMappings(of: .one, with: [kept, new])
        let after = try datapath.datapath.mappings()
        #expect(after.first == before.first && after.first?.flows == 1)
        #expect(after.last?.packets == 0 && after.last?.flows == 0)
        try datapath.expectForwarded(conversation, conversation.request())
        if kind.transport == .tcp { try datapath.expectForwarded(other, other.request()) }
        #expect(try datapath.datapath.flows().count == (kind.transport == .tcp ? 2 : 1))

        try datapath.replaceMappings(of: .one, with: [])
        #expect(try datapath.datapath.mappings().isEmpty)
    }

    @Test func `an owner's mappings come and go beside those of others`() throws {
        let datapath = try TestDatapath(["1 172.20.0.2:1"])
        try datapath.replaceMappings(of: .one, with: ["2 172.20.0.2:2", "3 172.20.0.2:3 allow=10.0.0.0/8"])
        try datapath.replaceMappings(of: .two, with: ["4 172.20.0.2:4"])
        let error = #expect(throws: FastNATError.self) {
            try datapath.replaceMappings(of: .two, with: ["5 172.20.0.2:5", "1-3 172.20.0.2:9"])
        }
        #expect(error?.description.contains("to 172.20.0.2:3 of one:1") == true, "\(String(describing: error))")
        let byHand = #expect(throws: FastNATError.self) {
            try datapath.replaceMappings(of: .two, with: ["1 172.20.0.2:9"])
        }
        #expect(byHand?.description.contains(" of ") == false, "\(String(describing: byHand))")
        #expect(try datapath.owners() == [nil, "one:1", "one:1", "two:2"])

        let three = try Listen(parsing: "3")
        #expect(throws: FastNATError.self) { try datapath.datapath.removeMappings([three], of: .two) }
        try datapath.datapath.removeMappings([three], of: .one)
        #expect(try datapath.owners() == [nil, "one:1", "two:2"])
        #expect(try datapath.datapath.removeMappings(of: .one) == 1)
        #expect(try datapath.datapath.removeMappings(of: .one) == 0)
        #expect(try datapath.owners() == [nil, "two:2"])
    }

    @Test func `a port goes from one owner to another in one change`() throws {
        let datapath = try TestDatapath(["1 172.20.0.2:1"])
        try datapath.replaceMappings(of: .one, with: ["2 172.20.0.2:2", "3-5 172.20.0.2:3"])
        try datapath.replaceMappings(of: .two, with: ["6 172.20.0.2:6"])
        let wanted = try [
            OwnedMapping(PortMapping(parsing: "2 172.20.0.2:2"), of: .two),
            OwnedMapping(PortMapping(parsing: "4 172.20.0.2:4"), of: .two),
            OwnedMapping(PortMapping(parsing: "6 172.20.0.2:7"), of: .one),
        ]
        func change(_ wanted: [OwnedMapping]) throws -> MappingChange {
            try MappingChange(leaving: { _ in true }, with: wanted, among: try datapath.maps.mappingEntries())
        }
        try datapath.datapath.carryOut(try change(wanted))
        #expect(try datapath.owners() == [nil, "two:2", "two:2", "one:1"])
        #expect(try Set(datapath.mappings(of: .two)) == Set(wanted.prefix(2).map(\.mapping)))
        #expect(try change(wanted).isEmpty)
        let byHand = OwnedMapping(try PortMapping(parsing: "1 172.20.0.2:9"), of: .one)
        #expect(throws: FastNATError.self) { try change(wanted + [byHand]) }
    }

    @Test func `a replacement that finds no room changes nothing`() throws {
        let datapath = try TestDatapath(["1 172.20.0.2:1"])
        try datapath.replaceMappings(of: .one, with: ["2 172.20.0.2:2", "3-9 172.20.0.2:3 allow=10.0.0.0/8"])
        let before = try datapath.datapath.mappings()
        let networks = (0..<65_536).map { "10.1.\($0 >> 8).\($0 & 255)/32" }.joined(separator: ",")
        let error = #expect(throws: FastNATError.self) {
            try datapath.replaceMappings(of: .one, with: ["2-9 172.20.0.2:7", "10 172.20.0.2:8 allow=\(networks)"])
        }
        #expect(error?.description.contains("65536 networks") == true, "\(String(describing: error))")
        #expect(try datapath.datapath.mappings() == before)
        #expect(try datapath.maps.sources.keys().count == 1)
        #expect(try datapath.maps.owners.keys().count == 2)
    }

    @Test func `what fails after a replacement takes it back, with counters and flows`() throws {
        struct Failure: Error {}
        let kind = Kind.all[1]
        let conversation = Conversation(kind)
        let datapath = try TestDatapath(["[::]:1 [fd00:17::2]:1"])
        let mapping = kind.family.mapping("8080/\(kind.transport)", to: "80")
        try datapath.replaceMappings(of: .one, with: [mapping, "2-9 172.20.0.2:7"])
        try datapath.open(conversation)
        let before = try datapath.datapath.mappings()
        let new = try ["3-20 172.20.0.2:3", "[::]:1 [fd00:17::2]:1"].map { try PortMapping(parsing: $0) }
        let change = try MappingChange(
            leaving: .one, with: new, among: try datapath.maps.mappingEntries(), adopting: true)
        #expect(throws: Failure.self) { try datapath.datapath.carryOut(change) { throw Failure() } }
        #expect(try datapath.datapath.mappings() == before)
        try datapath.expectForwarded(conversation, conversation.request())

        try datapath.datapath.carryOut(change)
        #expect(try datapath.owners() == ["one:1", "one:1"])
    }

    @Test func `a mapping that is added by hand never takes over what a killed command has left`() throws {
        let datapath = try TestDatapath([])
        for id in 0..<8 as Range<UInt32> { try datapath.maps.owners.set(id, mapping_owner(.one)) }
        try datapath.add(["80 172.20.0.2:80"])
        #expect(try datapath.owners() == [nil])
        #expect(try datapath.maps.owners.keys().isEmpty)
    }
}

extension MappingOwner {
    static let one = owner("one:1")
    static let two = owner("two:2")

    private static func owner(_ text: String) -> MappingOwner {
        do { return try MappingOwner(text) } catch { preconditionFailure("\(error)") }
    }
}

extension TestDatapath {
    fileprivate func replaceMappings(of owner: MappingOwner, with mappings: [String]) throws {
        try datapath.replaceMappings(of: owner, with: mappings.map { try PortMapping(parsing: $0) })
    }

    fileprivate func mappings(of owner: MappingOwner) throws -> [PortMapping] {
        try datapath.mappings().filter { $0.owner == owner }.map(\.mapping)
    }

    fileprivate func owners() throws -> [String?] { try datapath.mappings().map(\.owner?.text) }

    /// Expects that packets to these ports go where one model or the other says; to a port that is published in both, for
    /// either target.
    fileprivate func expectLookups(of ports: [UInt16], as before: MappingModel, or after: MappingModel) throws {
        for host in before.hosts {
            let found = try targetPorts(of: ports, on: host, before.kind)
            for (port, found) in zip(ports, found) {
                let expected = [before, after].map { $0.targetPort(of: port, on: host) }
                guard !expected.contains(found) else { continue }
                let changes = [before, after].map { $0.mappings.filter { $0.listen.ports.contains(port) } }
                Issue.record("\(host) port \(port): \(found ?? 0), none of \(expected); \(changes)")
            }
        }
    }
}

extension MappingModel {
    /// Another one: some mappings become one, some stay, some get another target or length, some go, others come.
    fileprivate init(kind: Kind, changing old: MappingModel, _ random: inout Generator) throws {
        self.init(kind: kind)
        let neighbours = old.mappings.filter { $0.listen.address == nil }.sorted {
            $0.listen.ports.first < $1.listen.ports.first
        }
        if neighbours.count > 3 {
            let start = Int.random(in: 0..<neighbours.count - 2, using: &random)
            _ = add(try neighbours[start].extended(downTo: 50, upTo: neighbours[start + 2].listen.ports.last))
        }
        for mapping in old.mappings.shuffled(using: &random) {
            if mapping.listen.ports.count > 400 {
                let (inner, other) = try mapping.split(&random)
                _ = add(inner)
                _ = add(other)
                continue
            }
            switch Int.random(in: 0..<4, using: &random) {
            case 0: continue
            case 1: _ = add(mapping)
            default: _ = add(try mapping.changed(&random))
            }
        }
        while mappings.count < 8 {
            if let new = try self.random(&random) { _ = add(new) }
        }
    }
}

extension PortMapping {
    /// The same beginning or the same end, but otherwise another length and target.
    fileprivate func changed(_ random: inout Generator) throws -> PortMapping {
        let size = UInt16.random(in: 1...300, using: &random)
        let (first, last) = (listen.ports.first, listen.ports.last)
        let target = UInt16.random(in: 1...65_535, using: &random)
        return Bool.random(using: &random)
            ? try with(first...(first > 65_535 - size ? 65_535 : first + size), to: target, isOpen: true)
            : try with((last > size ? last - size : 1)...last, to: target, isOpen: false)
    }

    /// One that begins so many ports earlier, and reaches further.
    fileprivate func extended(downTo distance: UInt16, upTo last: UInt16) throws -> PortMapping {
        let first = listen.ports.first
        return try with((first > distance ? first - distance : 1)...last, to: 7, isOpen: true)
    }

    /// Two mappings for parts of it, one of any address or of both kinds.
    fileprivate func split(_ random: inout Generator) throws -> (PortMapping, PortMapping) {
        let (first, last) = (listen.ports.first, listen.ports.last)
        let middle = UInt16.random(in: first + 100...last - 100, using: &random)
        let specific = family == .ipv4 ? "192.0.2.2" : "2001:db8:1::2"
        return (
            try with(first + 10...middle - 10, to: 77, isOpen: true),
            try with(middle...last - 10, to: 78, isOpen: false, on: listen.address == nil ? specific : nil)
        )
    }

    private func with(_ ports: ClosedRange<UInt16>, to target: UInt16, isOpen: Bool) throws -> PortMapping {
        try with(ports, to: target, isOpen: isOpen, on: listen.address?.description)
    }

    private func with(_ ports: ClosedRange<UInt16>, to target: UInt16, isOpen: Bool, on host: String?) throws
        -> PortMapping
    {
        let everybody = try IPPrefix(parsing: family == .ipv4 ? "0.0.0.0/0" : "::/0")
        let address = try IPAddress(parsing: host ?? (family == .ipv4 ? "0.0.0.0" : "::"))
        return try PortMapping(
            listen: Listen(
                address: address, ports: PortRange(first: ports.lowerBound, last: ports.upperBound),
                transport: listen.transport),
            target: Target(address: self.target.address, ports: PortRange(target)), allow: isOpen ? [] : [everybody])
    }
}
