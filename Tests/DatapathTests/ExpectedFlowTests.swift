import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Packets that are taken for the first of their flow before it is looked for, as those before them were
/// (`first_packet_is_expected`).
@Suite struct ExpectedFlowTests {
    @Test(arguments: Hook.allCases, Kind.all)
    func `after two new flows the next one is begun before it is looked for`(hook: Hook, kind: Kind) throws {
        let datapath = try prepared(hook, kind)
        try datapath.without([STAGE_ADMIT, STAGE_KNOWN]) {
            for (streak, next) in [(0, 1), (1, 2), (2, 2)] as [(UInt32, UInt32)] {
                let conversation = another(kind, 40_001 + UInt16(streak))
                try datapath.noteArrivals(kind.family, at: hook)
                try datapath.setStreaks(streak)
                try datapath.expectForwarded(conversation, conversation.request(.syn), at: hook)
                #expect(try datapath.streaks(.uplink).contains(next), "\(streak)")
            }
        }
        try datapath.expectConsistent(originals: 4)
        #expect(try datapath.datapath.flows().allSatisfy { $0.original.packets >= 1 })
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a known flow's packet that was taken for a first one goes its way, and ends the streak`(
        hook: Hook, kind: Kind
    ) throws {
        let datapath = try prepared(hook, kind)
        let known = Conversation(kind)
        // A SYN that comes again is TC's.
        let flags: Packet.TCPFlags = hook == .tc ? .syn : .ack
        let before = try #require(try datapath.datapath.flows().first).original.packets
        try datapath.setStreaks(2)
        try datapath.expectForwarded(known, known.request(flags, payload: [1]), at: hook)
        #expect(try datapath.streaks(.uplink).contains(0))
        #expect(try datapath.datapath.flows().map(\.original.packets) == [before + 1])
        try datapath.setStreaks(2)
        try datapath.expectReturned(known, known.reply(payload: [2]))
        #expect(try !datapath.streaks(.uplink).contains(0), "the other side's is another one")
        #expect(try datapath.streaks(.container).contains(0))
        try datapath.expectConsistent(originals: 1)
    }

    /// So that the test above is about what it says.
    @Test(arguments: Hook.allCases, Family.allCases)
    func `without the program that looks for it after all, such a packet would be passed`(
        hook: Hook, family: Family
    ) throws {
        let kind = Kind(family: family, transport: .udp)
        let datapath = try prepared(hook, kind)
        try datapath.without([STAGE_KNOWN]) {
            for streak: UInt32 in [1, 2] {
                try datapath.setStreaks(streak)
                let outcome = try datapath.outcome(of: Conversation(kind).request(payload: [1]).bytes, at: hook)
                #expect(outcome.verdict == (streak == 2 ? .passed : .redirected))
            }
        }
    }

    /// A SYN is expected always; one of a known flow has to be looked for after all, and not to be expected again.
    @Test(arguments: Family.allCases)
    func `a SYN that comes again goes its way by the program that looks for it`(family: Family) throws {
        let kind = Kind(family: family, transport: .tcp)
        let datapath = try prepared(.tc, kind)
        let known = Conversation(kind)
        try datapath.without([STAGE_KNOWN]) { try datapath.expectPassed(known.request(.syn), at: .tc) }
        try datapath.setStreaks(0)
        try datapath.expectForwarded(known, known.request(.syn), at: .tc)
        #expect(try datapath.streaks(.uplink).contains(0) && !datapath.streaks(.uplink).contains(3))
        try datapath.expectConsistent(originals: 1)
    }

    /// As with every second packet of a client that opens one connection after the other.
    @Test(arguments: Hook.allCases, Kind.all)
    func `a known flow's packet ends a streak that nothing is expected of yet`(hook: Hook, kind: Kind) throws {
        let datapath = try prepared(hook, kind)
        let known = Conversation(kind)
        try datapath.setStreaks(1)
        try datapath.expectForwarded(known, known.request(payload: [1]), at: hook)
        #expect(try datapath.streaks(.uplink).contains(0))
        try datapath.expectReturned(known, known.reply(payload: [2]))
        #expect(try datapath.streaks(.container).contains(0))
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `a flow whose tuple has spilled is found, and not begun again`(hook: Hook, kind: Kind) throws {
        let datapath = try prepared(hook, kind)
        // More than a table for 1,024 flows enters without a second thought.
        let crowd = (0..<600).map { another(kind, 32_768 + UInt16($0)) }
        try datapath.changeSettings { $0.max_half_open = $0.max_flows }
        for conversation in crowd {
            try datapath.setStreaks(2)
            _ = try datapath.run([conversation.request(.syn).bytes], at: .tc)
        }
        let flows = try datapath.datapath.flows().count
        try datapath.noteArrivals(kind.family, at: hook)
        for conversation in crowd {
            try datapath.setStreaks(2)
            _ = try datapath.run([conversation.request(.syn).bytes], at: hook)
        }
        #expect(try datapath.datapath.flows().count == flows)
        try datapath.expectConsistent(originals: flows)
    }

    @Test(arguments: Hook.allCases, Kind.all)
    func `where something is to be asked, whoever asks gets the packet`(hook: Hook, kind: Kind) throws {
        let stale = ArrivalNote(address: kind.family.host, age: 2_000)
        let datapath = try prepared(hook, kind, stale)
        let conversation = another(kind, 40_001)
        try datapath.setStreaks(2)
        if hook == .xdp { try datapath.expectPassed(conversation.request(.syn), at: .xdp) }
        try datapath.setStreaks(2)
        try datapath.expectForwarded(conversation, conversation.request(.syn), at: .tc)
        try datapath.setStreaks(2)
        let foreign = another(kind, 40_002).with { $0.published.port = 9_999 }
        try datapath.expectPassed(foreign.request(.syn), at: hook)
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: Hook.allCases, Family.allCases)
    func `the next connection on a flow that is over ends that`(hook: Hook, family: Family) throws {
        let kind = Kind(family: family, transport: .tcp)
        let datapath = try prepared(hook, kind)
        let conversation = Conversation(kind)
        try datapath.expectForwarded(conversation, conversation.request([.fin, .ack]))
        try datapath.expectReturned(conversation, conversation.reply([.fin, .ack]))
        try datapath.noteArrivals(family, at: hook)
        try datapath.setStreaks(2)
        try datapath.withoutAdmission(at: hook) {
            try datapath.expectForwarded(conversation, conversation.request(.syn), at: hook)
        }
        let flow = try #require(try datapath.datapath.flows().first)
        #expect(flow.state == .halfOpen && flow.original.packets == 1)
        try datapath.expectConsistent(originals: 1)
    }

    // MARK: -

    private func another(_ kind: Kind, _ port: UInt16) -> Conversation {
        Conversation(kind).with { $0.client.port = port }
    }

    /// A datapath with an open flow to its mapping, and with this note alone.
    private func prepared(_ hook: Hook, _ kind: Kind, _ note: ArrivalNote? = nil) throws -> TestDatapath {
        let datapath = try TestDatapath(kind.family.standardMappings)
        try datapath.open(Conversation(kind))
        try datapath.noteAlone(note ?? ArrivalNote(address: kind.family.host), at: hook)
        return datapath
    }
}
