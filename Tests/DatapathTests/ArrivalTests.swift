import Addresses
import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// New flows about which nothing is to be asked: those of which all has been found out already. (A test run at XDP comes from
/// the loopback device.)
@Suite struct ArrivalTests {
    private static let transports = Kind.all + Family.allCases.map { Kind(family: $0, transport: .sctp) }

    @Test(arguments: Hook.allCases, transports)
    func `a flow begins at once where one like it has been seen`(hook: Hook, kind: Kind) throws {
        let datapath = try prepared(hook, kind)
        // Below 32,768 the tuples of a flow have different first buckets.
        for port: UInt16 in [1_025, 32_767, 32_768, 40_001] {
            let conversation = Conversation(kind).with { $0.client.port = port }
            let before = try #require(try mapping(datapath))
            let request = conversation.request(.syn, payload: payload(kind))
            try datapath.noteAlone(ArrivalNote(address: kind.family.host), at: hook)
            try datapath.withoutAdmission(at: hook) { try datapath.expectForwarded(conversation, request, at: hook) }
            let bytes = UInt64(request.bytes.count - 14)
            let flow = try datapath.datapath.flows().first { $0.original.source.port == port }
            #expect(flow?.original.packets == 1 && flow?.original.bytes == bytes && flow?.reply.packets == 0)
            #expect(flow?.state == (kind.transport == .udp ? .unreplied : .halfOpen))
            let after = try #require(try mapping(datapath))
            #expect(after.packets - before.packets == 1 && after.bytes - before.bytes == bytes)
            try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
            try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: hook)
            try datapath.expectReturned(conversation, conversation.reply(payload: [2]), at: hook)
        }
        #expect(Set(try datapath.states()) == [kind.transport == .udp ? .replied : .established])
        #expect(try datapath.datapath.mappings().map(\.flows).max() == 5)
        try datapath.expectConsistent(originals: 5)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `what has been noted is the interface's, the address's, and good for less than a second`(
        hook: Hook, kind: Kind
    ) throws {
        let request = another(kind).request(.syn)
        let host = kind.family.host
        for note in [
            ArrivalNote(address: host, interface: 2), ArrivalNote(address: host, age: 2_000),
            ArrivalNote(address: host, mac: "02:00:00:00:01:02"),
            ArrivalNote(address: kind.family.otherHost), ArrivalNote(address: nil),
            ArrivalNote(address: host, addressAge: 2_000),
            ArrivalNote(address: host, addressInterface: 2),
        ] {
            let datapath = try prepared(hook, kind, note)
            try datapath.withoutAdmission(at: hook) { try datapath.expectPassed(request, at: hook) }
            #expect(try datapath.states().count == 1, "\(note)")
        }
        let datapath = try prepared(hook, kind)
        try datapath.setNextHops(.stale)
        try datapath.withoutAdmission(at: hook) {
            let action = try datapath.run([request.bytes], at: hook)[0].action
            #expect(Outcome.Verdict(action, at: hook) == .passed)
        }
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a published address need not be noted, its interface must`(hook: Hook, kind: Kind) throws {
        let mapping = kind.family.mapping("8080/\(kind.transport)", to: "80", on: kind.family.host)
        let datapath = try prepared(hook, kind, ArrivalNote(address: nil), mappings: [mapping])
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(another(kind), another(kind).request(.syn), at: hook)
        }
        let other = try prepared(hook, kind, ArrivalNote(address: nil, interface: 2), mappings: [mapping])
        try other.withoutAdmission(at: hook) { try other.expectPassed(another(kind).request(.syn), at: hook) }
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `ports of a range begin flows at once`(hook: Hook, kind: Kind) throws {
        let mapping = kind.family.mapping("8080-8089/\(kind.transport)", to: "80-89")
        let datapath = try prepared(hook, kind, mappings: [mapping])
        try datapath.withoutAdmission(at: hook) {
            for offset: UInt16 in 0..<10 {
                let conversation = another(kind).with {
                    ($0.published.port, $0.target.port) = (8080 + offset, 80 + offset)
                }
                try datapath.noteAlone(ArrivalNote(address: kind.family.host), at: hook)
                try datapath.expectForwarded(conversation, conversation.request(.syn), at: hook)
            }
        }
        let beyond = another(kind).with { $0.published.port = 8090 }
        try datapath.expectPassed(beyond.request(.syn), at: hook)
        try datapath.expectConsistent(originals: 11)
    }

    /// What a packet has that others are to look at.
    enum Oddity: CaseIterable {
        case unpublished, usedUp, optioned, fragment, tooLong, halfSummed, broadcast, linkLocal, martian, ownSource,
            toNobody
    }

    @Test(arguments: Kind.all, Oddity.allCases)
    func `what is out of the ordinary is left to others, and makes no flow`(kind: Kind, oddity: Oddity) throws {
        if kind.family == .ipv6, oddity == .optioned { return }
        for hook in Hook.allCases where hook == .xdp || oddity != .halfSummed {
            let datapath = try prepared(hook, kind)
            try datapath.withoutAdmission(at: hook) { try datapath.expectPassed(packet(kind, oddity), at: hook) }
            #expect(try datapath.states().count == 1)
        }
    }

    @Test(arguments: Kind.all)
    func `a packet that its sender's device sums, or cuts, begins a flow at once at TC`(kind: Kind) throws {
        let datapath = try prepared(.tc, kind)
        try datapath.withoutAdmission(at: .tc) {
            let partial = packet(kind, .halfSummed)
            let outcome = try datapath.outcome(of: partial.bytes, at: .tc)
            #expect(outcome.verdict == .redirected)
            let long = another(kind, 40_002).request(.syn, payload: [UInt8](repeating: 1, count: 3_000))
            #expect(try datapath.outcome(of: long.bytes, at: .tc, gsoSize: 1_400).verdict == .redirected)
            let longer = another(kind, 40_003).request(.syn, payload: [UInt8](repeating: 1, count: 3_000))
            #expect(try datapath.outcome(of: longer.bytes, at: .tc, gsoSize: 1_490).verdict == .passed)
            let summed = another(kind, 40_004).request(.syn, payload: [1, 2, 3])
            #expect(try datapath.sumFits(summed.bytes, on: .uplink) != false)
        }
        try datapath.expectConsistent(originals: 4)
    }

    @Test(arguments: Hook.allCases, Family.allCases)
    func `segments that begin no connection begin no flow`(hook: Hook, family: Family) throws {
        let datapath = try prepared(hook, Kind(family: family, transport: .tcp))
        for flags: Packet.TCPFlags in [[], .ack, .rst, [.syn, .ack], [.syn, .rst], [.syn, .fin], .fin] {
            try datapath.expectPassed(another(Kind(family: family, transport: .tcp)).request(flags), at: hook)
        }
        #expect(try datapath.states().count == 1)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `only allowed networks begin flows`(hook: Hook, kind: Kind) throws {
        let allowed = kind.family == .ipv4 ? "192.0.2.0/25" : "2001:db8:1::/64"
        let mapping = kind.family.mapping("8080/\(kind.transport)", to: "80", allow: [allowed])
        let datapath = try prepared(hook, kind, mappings: [mapping])
        let outside = another(kind).with {
            $0.client.address = kind.family.farClient
            $0.clientMAC = TestNetwork.gatewayMAC
        }
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(another(kind), another(kind).request(.syn), at: hook)
            try datapath.expectPassed(outside.request(.syn), at: hook)
        }
        #expect(try datapath.states().count == 2)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a client's port that is taken towards the target is for others to replace`(hook: Hook, kind: Kind) throws {
        let other = kind.family.mapping("8081/\(kind.transport)", to: "80")
        let datapath = try prepared(hook, kind, mappings: kind.family.standardMappings + [other])
        var again = another(kind).with { $0.published.port = 8081 }
        try datapath.open(again.with { $0.client.port = 40_002 })  // its mapping has a next hop now
        try datapath.noteAlone(ArrivalNote(address: kind.family.host), at: hook)
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(another(kind), another(kind).request(.syn), at: hook)
            try datapath.expectPassed(again.request(.syn), at: hook)
        }
        #expect(try datapath.states().count == 3)
        #expect(try datapath.run([again.request(.syn).bytes], at: .tc)[0].action == 7)
        again.translatedPort = try #require(
            try datapath.datapath.flows().first {
                $0.original.destination.port == 8081 && $0.original.source.port == 40_001
            }
        ).reply.destination.port
        #expect(again.translatedPort != 40_001)
        try datapath.expectForwarded(again, again.request(payload: [1]), at: hook)
        try datapath.expectConsistent(originals: 4)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `flows over a limit are dropped at once, and counted`(hook: Hook, kind: Kind) throws {
        let mapping = kind.family.mapping("8080/\(kind.transport)", to: "80") + " limit-flows=2"
        let datapath = try prepared(hook, kind, mappings: [mapping])
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(another(kind), another(kind).request(.syn), at: hook)
            let outcome = try datapath.outcome(of: another(kind, 40_002).request(.syn).bytes, at: hook)
            #expect(outcome.verdict == .dropped)
            #expect(outcome.counted == ["flow_limit": 1])
        }
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a flow that is left to others counts once at its rate`(hook: Hook, kind: Kind) throws {
        let mappings = ["8080", "8081"].map {
            kind.family.mapping("\($0)/\(kind.transport)", to: "80") + " limit-rate=3/m"
        }
        let datapath = try prepared(hook, kind, mappings: mappings)
        func toOther(_ port: UInt16) -> [UInt8] {
            another(kind, port).with { $0.published.port = 8081 }.request(.syn).bytes
        }
        #expect(try datapath.outcome(of: toOther(40_002), at: .tc).counted.isEmpty)
        try datapath.noteAlone(ArrivalNote(address: kind.family.host), at: hook)
        if hook == .xdp {  // 40000 is the other mapping's client: TC finds another port
            #expect(try datapath.outcome(of: toOther(40_000), at: .xdp).verdict == .passed)
        }
        for port in [40_000, 40_009] as [UInt16] {
            #expect(try datapath.outcome(of: toOther(port), at: .tc).counted.isEmpty, "\(port)")
        }
        #expect(try datapath.outcome(of: toOther(40_010), at: .tc).counted == ["rate_limit": 1])
        try datapath.expectConsistent(originals: 4)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a full table drops new flows at once`(hook: Hook, kind: Kind) throws {
        let datapath = try prepared(hook, kind)
        try datapath.withoutAdmission(at: hook) {
            try datapath.changeSettings { $0.max_flows = UInt32(kind.family.places) }
            let outcome = try datapath.outcome(of: another(kind).request(.syn).bytes, at: hook)
            #expect(outcome.verdict == .dropped)
            #expect(outcome.counted == ["table_full": 1])
            try datapath.changeSettings { ($0.max_flows, $0.max_half_open) = (1_024, 0) }
            let flood = try datapath.outcome(of: another(kind).request(.syn).bytes, at: hook)
            #expect(flood.verdict == .dropped)
            #expect(flood.counted == ["half_open_full": 1])
        }
    }

    @Test(arguments: Kind.all)
    func `a flow whose first frame cannot leave is not kept`(kind: Kind) throws {
        let datapath = try prepared(.xdp, kind)
        try datapath.setXDPOutput(datapath.network.container, false)  // as when the interface has gone
        let outcome = try datapath.outcome(of: another(kind).request(.syn).bytes, at: .xdp)
        #expect(outcome.verdict == .dropped)
        #expect(outcome.counted == ["no_route": 1])
        try datapath.expectConsistent(originals: 1)
    }

    // MARK: -

    private func another(_ kind: Kind, _ port: UInt16 = 40_001) -> Conversation {
        Conversation(kind).with { $0.client.port = port }
    }

    /// The one that has flows.
    private func mapping(_ datapath: TestDatapath) throws -> InstalledMapping? {
        try datapath.datapath.mappings().first { $0.flows > 0 }
    }

    private func payload(_ kind: Kind) -> [UInt8] { kind.transport == .udp ? [1, 2, 3] : [] }

    private func packet(_ kind: Kind, _ oddity: Oddity) -> Packet {
        let conversation = another(kind)
        let request = conversation.request(.syn, payload: [1, 2, 3, 4])
        let isIPv4 = kind.family == .ipv4
        func from(_ address: Packet.Address) -> Packet {
            conversation.with { $0.client.address = address }.request(.syn)
        }
        return switch oddity {
        case .unpublished: conversation.with { $0.published.port = 9_999 }.request(.syn)
        case .usedUp: request.with { $0.ttl = 1 }
        case .optioned: request.with { $0.ipv4?.options = [1, 1, 1, 0] }
        case .fragment:
            conversation.request(.syn, payload: [UInt8](repeating: 1, count: 1_600)).fragments(
                of: 1_400, identification: 9)[0]
        case .tooLong: conversation.request(.syn, payload: [UInt8](repeating: 1, count: 1_600))
        case .halfSummed: request.with { $0.transportChecksum = .partial }
        case .broadcast: request.with { $0.link = ($0.link?.source ?? TestNetwork.clientMAC, "ff:ff:ff:ff:ff:ff") }
        case .linkLocal: from(isIPv4 ? "169.254.1.1" : "fe80::9")
        case .martian: from(isIPv4 ? "127.0.0.9" : "::1")
        case .ownSource: from(kind.family.otherHost)
        case .toNobody: conversation.with { $0.published.address = kind.family.stranger }.request(.syn)
        }
    }

    /// A datapath with an open flow to its mapping, and with this note alone.
    private func prepared(_ hook: Hook, _ kind: Kind, _ note: ArrivalNote? = nil, mappings: [String]? = nil) throws
        -> TestDatapath
    {
        let note = note ?? ArrivalNote(address: kind.family.host)
        let sctp = kind.family.mapping("8080/sctp", to: "8080")
        let datapath = try TestDatapath(mappings ?? kind.family.standardMappings + [sctp])
        try datapath.open(Conversation(kind))
        try datapath.noteAlone(note, at: hook)
        return datapath
    }
}
