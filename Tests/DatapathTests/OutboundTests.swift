import Addresses
import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// New flows of containers about which nothing is to be asked: those of which all has been found out already. Without the
/// program that asks, TC passes the others.
@Suite struct OutboundTests {
    private static let transports = Kind.all + Family.allCases.map { Kind(family: $0, transport: .sctp) }

    @Test(arguments: transports)
    func `a flow begins at once where one like it has been`(kind: Kind) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        for number: UInt16 in 1...3 {
            let outbound = first.later(number)
            let before = try datapath.listed()
            let request = outbound.request(.syn, payload: payload(kind))
            try datapath.spreadNotes()
            try datapath.withoutAdmission(at: .tc) { try datapath.expectForwarded(outbound, request) }
            let bytes = UInt64(request.bytes.count - 14)
            let flow = try datapath.flow(of: outbound)
            #expect(flow?.original.packets == 1 && flow?.original.bytes == bytes && flow?.reply.packets == 0)
            #expect(flow?.state == (kind.transport == .udp ? .unreplied : .halfOpen))
            let after = try datapath.listed()
            #expect(after.flows - before.flows == 1 && after.packets - before.packets == 1)
            #expect(after.bytes - before.bytes == bytes)
            try datapath.expectReturned(outbound, outbound.reply([.syn, .ack]))
            try datapath.expectForwarded(outbound, outbound.request(payload: [1]))
            for hook in Hook.allCases {
                try datapath.expectReturned(outbound, outbound.reply(payload: [2]), at: hook)
            }
        }
        #expect(Set(try datapath.states()) == [kind.transport == .udp ? .replied : .established])
        try datapath.expectConsistent(originals: 4)
    }

    @Test(arguments: Kind.all)
    func `a flow that begins at once goes on by the way of the one before, for as long as that is good`(kind: Kind)
        throws
    {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        let outbound = first.later()
        var noted: UInt32 = 0
        try datapath.spreadNotes { noted = $0.noted }
        try datapath.withoutAdmission(at: .tc) { try datapath.expectForwarded(outbound, outbound.request(.syn)) }
        let record = try #require(
            try datapath.liveRecords().map(\.record).first {
                $0.original_ends.source_port == outbound.container.port.bigEndian
            })
        #expect(record.original.refreshed == noted)
        try datapath.setNextHops(.fresh)
        try datapath.forget()
        try datapath.withoutRoutes(at: .tc) {
            try datapath.expectForwarded(outbound, outbound.request(payload: [1]))
        }
    }

    @Test(arguments: transports)
    func `a rule's address, ports, exemptions and limits hold`(kind: Kind) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind) {
            try $0.masquerade(
                kind.family, to: kind.family.otherHost, ports: 40_000...40_002, exempt: ["\(kind.family.stranger)"],
                limits: ["limit-flows": "3"])
        }
        #expect(first.external.address == kind.family.otherHost)
        try datapath.withoutAdmission(at: .tc) {
            try datapath.expectForwarded(first.later(2), first.later(2).request(.syn))
            try datapath.expectPassed(first.later(3).request(.syn), on: .container)
        }
        let exempt = first.later().with { $0.server.address = kind.family.stranger }
        try datapath.expectPassed(exempt.request(.syn), on: .container)
        if kind.transport == .sctp {  // which keeps its ports
            try datapath.expectReported(
                first.later(3).request(.syn), as: .prohibited, on: .container, counting: "no_free_port")
        } else {
            #expect(try datapath.open(first.later(3)).external.port == 40_001)
        }
        try datapath.expectConsistent(originals: kind.transport == .sctp ? 2 : 3)
    }

    @Test(arguments: Kind.all, [53, 700] as [UInt16])
    func `a well-known source port is kept`(kind: Kind, port: UInt16) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        let outbound = first.with { ($0.container.port, $0.external.port) = (port, port) }
        try datapath.withoutAdmission(at: .tc) { try datapath.expectForwarded(outbound, outbound.request(.syn)) }
        try datapath.expectConsistent(originals: 2)
    }

    /// What was noted, and of what the packet is not.
    enum Difference: String, CaseIterable {
        case none, noteTooOld, noteOfOtherInterface, noteOfOtherVersion, noteToOther, noteFromOther
        case wayTooOld, wayOfOtherInterface, wayToOther, wayFromOther
    }

    @Test(arguments: Kind.all, Difference.allCases)
    func `what has been noted is the interface's, the addresses', and good for less than a second`(
        kind: Kind, difference: Difference
    ) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        let uplink = datapath.network.uplink.index
        let (far, other) = (try address(kind.family.farClient), try address(kind.family.otherTarget))
        try datapath.spreadNotes {
            switch difference {
            case .noteTooOld: $0.noted &-= 860  // and the 50 that it has anyway
            case .noteOfOtherInterface: $0.ifindex = uplink
            case .noteOfOtherVersion: $0.version &-= 1
            case .noteToOther: $0.destination = far
            case .noteFromOther: $0.source = other
            default: break
            }
        } way: {
            switch difference {
            case .wayTooOld: $0.noted &-= 860
            case .wayOfOtherInterface: $0.ifindex = uplink
            case .wayToOther: $0.destination = far
            case .wayFromOther: $0.source = other
            default: break
            }
        }
        let outbound = first.later()
        try datapath.withoutAdmission(at: .tc) {
            if difference == .none { return try datapath.expectForwarded(outbound, outbound.request(.syn)) }
            try datapath.expectPassed(outbound.request(.syn), on: .container)
        }
        if difference != .none {
            #expect(try datapath.states().count == 1)
            _ = try datapath.open(outbound)
        }
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: Kind.all)
    func `another server, another container and a forgotten way are asked about`(kind: Kind) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        let far = first.later().with {
            ($0.server.address, $0.serverMAC) = (kind.family.farClient, TestNetwork.gatewayMAC)
        }
        try datapath.withoutAdmission(at: .tc) {
            for outbound in [far, first.later().fromOther(kind.family)] {
                try datapath.expectPassed(outbound.request(.syn), on: .container)
            }
            try datapath.setNextHops(.stale)
            try datapath.expectPassed(first.later().request(.syn), on: .container)
        }
        for outbound in [far, first.later(2).fromOther(kind.family), first.later(3)] {
            _ = try datapath.open(outbound)
        }
        try datapath.spreadNotes()
        try datapath.withoutAdmission(at: .tc) {
            for outbound in [far.later(4), first.later(5).fromOther(kind.family), first.later(6)] {
                try datapath.expectForwarded(outbound, outbound.request(.syn))
            }
        }
        try datapath.expectConsistent(originals: 7)
    }

    /// What changes about the rules.
    enum Change: String, CaseIterable {
        case exempted, removed, replaced, longer, published, unpublished
    }

    @Test(arguments: Kind.all, Change.allCases)
    func `whatever changes about rules holds at once`(kind: Kind, change: Change) throws {
        let family = kind.family
        let mapping = family.mapping("99/\(kind.transport)", to: "99")
        let (datapath, first) = try TestDatapath.masquerading(kind, change == .unpublished ? [mapping] : [])
        if [.exempted, .removed, .replaced].contains(change) { try datapath.removeMasquerades() }
        switch change {
        case .exempted: try datapath.masquerade(family, exempt: ["\(first.server.address)"])
        case .removed: break
        case .replaced: try datapath.masquerade(family, ports: 50_000...50_000)
        case .longer: try datapath.masquerade(family, network: "\(family.target)", ports: 60_000...60_000)
        case .published: try datapath.add([mapping])
        case .unpublished: try datapath.datapath.removeAllMappings()
        }
        let outbound = first.later()
        // As if every CPU had noted it just before.
        try datapath.spreadNotes()
        try datapath.withoutAdmission(at: .tc) { try datapath.expectPassed(outbound.request(.syn), on: .container) }
        switch change {
        case .exempted, .removed: try datapath.expectPassed(outbound.request(.syn), on: .container)
        case .replaced: #expect(try datapath.begin(outbound).external.port == 50_000)
        case .longer: #expect(try datapath.begin(outbound).external.port == 60_000)
        case .published, .unpublished: #expect(try datapath.begin(outbound).external == outbound.external)
        }
    }

    /// What a packet has that others are to look at.
    enum Oddity: CaseIterable {
        case usedUp, optioned, fragment, tooLong
    }

    @Test(arguments: Kind.all, Oddity.allCases)
    func `what is out of the ordinary is left to others, and makes no flow`(kind: Kind, oddity: Oddity) throws {
        if kind.family == .ipv6, oddity == .optioned { return }
        let (datapath, first) = try TestDatapath.masquerading(kind)
        let packet = packet(first.later(), oddity)
        try datapath.withoutAdmission(at: .tc) { try datapath.expectPassed(packet, on: .container) }
        #expect(try datapath.states().count == 1)
        switch oddity {
        case .usedUp:
            try datapath.expectReported(packet, as: .timeExceeded, on: .container, counting: "ttl_expired")
        case .tooLong:
            try datapath.expectReported(packet, as: .tooBig(mtu: 1_500), on: .container, counting: "too_big")
        case .optioned: try datapath.expectForwarded(first.later(), packet)
        case .fragment:
            let forwarded = first.later().forwarded(long(first.later())).fragments(of: 1_400, identification: 9)[0]
            try datapath.expectForwarded(packet, as: forwarded, on: .container)
        }
        try datapath.expectConsistent()
    }

    @Test(arguments: Kind.all)
    func `a packet that its sender's device sums, or cuts, begins a flow at once`(kind: Kind) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        let payload = [UInt8](repeating: 1, count: 3_000)
        try datapath.withoutAdmission(at: .tc) {
            let partial = first.later().request(.syn, payload: [1, 2, 3]).with { $0.transportChecksum = .partial }
            #expect(try datapath.outcome(of: partial.bytes, at: .tc, on: .container).verdict == .redirected)
            let long = first.later(2).request(.syn, payload: payload)
            try datapath.expectForwarded(long, as: first.later(2).forwarded(long), on: .container, gsoSize: 1_400)
            let longer = first.later(3).request(.syn, payload: payload)
            let outcome = try datapath.outcome(of: longer.bytes, at: .tc, on: .container, gsoSize: 1_490)
            #expect(outcome.verdict == .passed)
            let summed = first.later(4).request(.syn, payload: [1, 2, 3])
            #expect(try datapath.sumFits(summed.bytes, on: .container) != false)
        }
        try datapath.expectConsistent(originals: 4)
    }

    @Test(arguments: Kind.all)
    func `a wrong checksum stays wrong, and a datagram without one stays so`(kind: Kind) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        let request = first.later().request(.syn, payload: [1, 2, 3]).with { $0.transportChecksum = .offBy(5) }
        try datapath.withoutAdmission(at: .tc) {
            try datapath.expectForwarded(first.later(), request)
            guard kind.transport == .udp, kind.family == .ipv4 else { return }
            let unsummed = first.later(2).request(payload: [1, 2, 3]).with { $0.transportChecksum = .zero }
            try datapath.expectForwarded(first.later(2), unsummed)
        }
    }

    @Test(arguments: Family.allCases)
    func `segments that begin no connection begin no flow`(family: Family) throws {
        let (datapath, first) = try TestDatapath.masquerading(Kind(family: family, transport: .tcp))
        for flags: Packet.TCPFlags in [[], .ack, .rst, [.syn, .ack], [.syn, .rst], [.syn, .fin], .fin] {
            try datapath.expectPassed(first.later().request(flags), on: .container)
        }
        #expect(try datapath.states().count == 1)
    }

    // MARK: -

    private func payload(_ kind: Kind) -> [UInt8] { kind.transport == .udp ? [1, 2, 3] : [] }

    private func address(_ address: Packet.Address) throws -> address {
        CDatapath.address(try IPAddress(parsing: "\(address)"))
    }

    private func long(_ outbound: Outbound) -> Packet {
        outbound.request(.syn, payload: [UInt8](repeating: 1, count: 1_600))
    }

    private func packet(_ outbound: Outbound, _ oddity: Oddity) -> Packet {
        let request = outbound.request(.syn, payload: [1, 2, 3, 4])
        return switch oddity {
        case .usedUp: request.with { $0.ttl = 1 }
        case .optioned: request.with { $0.ipv4?.options = [1, 1, 1, 0] }
        case .fragment: long(outbound).fragments(of: 1_400, identification: 9)[0]
        case .tooLong: long(outbound)
        }
    }
}

extension TestDatapath {
    /// The one masquerade that there is, as it is listed.
    fileprivate func listed() throws -> InstalledMasquerade {
        try #require(try datapath.masquerades { "#\($0)" }.first)
    }

    fileprivate func flow(of outbound: Outbound) throws -> Flow? {
        try datapath.flows().first { $0.original.source.port == outbound.container.port }
    }
}
