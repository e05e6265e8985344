import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Containers' packets that are taken for the first of their flow before it is looked for, as those before them were
/// (`first_packet_is_expected`).
@Suite struct ExpectedOutboundTests {
    private static let transports = Kind.all + Family.allCases.map { Kind(family: $0, transport: .sctp) }

    @Test(arguments: transports)
    func `after two new flows the next one is begun before it is looked for`(kind: Kind) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        try datapath.without([STAGE_ADMIT, STAGE_KNOWN_OUTBOUND]) {
            for (streak, next) in [(0, 1), (1, 2), (2, 2)] as [(UInt32, UInt32)] {
                let outbound = first.later(1 + UInt16(streak))
                try datapath.spreadNotes()
                try datapath.setStreaks(streak)
                try datapath.expectForwarded(outbound, outbound.request(.syn))
                #expect(try datapath.streaks(.container).contains(next), "\(streak)")
                #expect(try datapath.streaks(.uplink).allSatisfy { $0 == streak }, "the other side's is another one")
            }
        }
        try datapath.expectConsistent(originals: 4)
        #expect(try datapath.datapath.flows().allSatisfy { $0.original.packets >= 1 })
    }

    @Test(arguments: Kind.all)
    func `a known flow's packet that was taken for a first one goes its way, and ends the streak`(kind: Kind) throws {
        let (datapath, known) = try TestDatapath.masquerading(kind)
        let before = try #require(try datapath.datapath.flows().first).original.packets
        try datapath.setStreaks(2)
        try datapath.expectForwarded(known, known.request(.syn, payload: [1]))
        #expect(try datapath.streaks(.container).contains(0))
        #expect(try datapath.datapath.flows().map(\.original.packets) == [before + 1])
        try datapath.expectConsistent(originals: 1)
    }

    /// So that the test above is about what it says.
    @Test(arguments: Family.allCases)
    func `without the program that looks for it after all, such a packet would be passed`(family: Family) throws {
        let (datapath, known) = try TestDatapath.masquerading(Kind(family: family, transport: .udp))
        try datapath.without([STAGE_KNOWN_OUTBOUND]) {
            for streak: UInt32 in [1, 2] {
                try datapath.spreadNotes()
                try datapath.setStreaks(streak)
                let outcome = try datapath.outcome(of: known.request(payload: [1]).bytes, at: .tc, on: .container)
                #expect(outcome.verdict == (streak == 2 ? .passed : .redirected))
            }
        }
    }

    @Test(arguments: Kind.all)
    func `a mapping's reply is expected to begin nothing, unless containers come to its client as well`(kind: Kind)
        throws
    {
        let (datapath, _) = try TestDatapath.masquerading(kind, kind.family.standardMappings)
        let known = Conversation(kind)
        let far = known.with { ($0.client.address, $0.clientMAC) = (kind.family.farClient, TestNetwork.gatewayMAC) }
        for conversation in [far, known] { try datapath.open(conversation) }
        try datapath.setStreaks(2)
        try datapath.without([STAGE_KNOWN_OUTBOUND]) {
            try datapath.expectReturned(far, far.reply(payload: [1]))
        }
        #expect(try datapath.streaks(.container).contains(0))
        try datapath.spreadNotes()
        try datapath.setStreaks(2)
        try datapath.expectReturned(known, known.reply(payload: [1]))
        try datapath.expectConsistent(originals: 3)
    }

    @Test(arguments: Kind.all)
    func `a flow whose tuple has spilled is found, and not begun again`(kind: Kind) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        // More than a table for 1,024 flows enters without a second thought.
        let crowd = (1...600).map { first.later($0) }
        try datapath.changeSettings { $0.max_half_open = $0.max_flows }
        let run = {
            for outbound in crowd {
                try datapath.spreadNotes()
                try datapath.setStreaks(2)
                _ = try datapath.outcome(of: outbound.request(.syn).bytes, at: .tc, on: .container)
            }
        }
        try run()
        let flows = try datapath.datapath.flows().count
        try run()
        #expect(try datapath.datapath.flows().count == flows)
        try datapath.expectConsistent(originals: flows)
    }

    @Test(arguments: Kind.all)
    func `where something is to be asked, whoever asks gets the packet`(kind: Kind) throws {
        let (datapath, first) = try TestDatapath.masquerading(kind)
        try datapath.setStreaks(2)
        try datapath.setNextHops(.stale)
        try datapath.expectForwarded(first.later(), first.later().request(.syn))
        try datapath.spreadNotes { $0.noted &-= NextHopAge.stale.rawValue }
        try datapath.setStreaks(2)
        try datapath.expectForwarded(first.later(2), first.later(2).request(.syn))
        try datapath.expectConsistent(originals: 3)
        try datapath.removeMasquerades()
        try datapath.spreadNotes()
        try datapath.setStreaks(2)
        try datapath.expectPassed(first.later(3).request(.syn), on: .container)
    }

    @Test(arguments: Family.allCases)
    func `a container's own port that is taken, also when it is found out last, is replaced`(family: Family) throws {
        let kind = Kind(family: family, transport: .udp)
        let (datapath, first) = try TestDatapath.masquerading(kind)
        let other = try datapath.open(first.later().fromOther(family))
        try datapath.spreadNotes()
        try datapath.setStreaks(2)
        let second = try datapath.open(first.later())
        #expect(second.external.port != other.external.port && second.external.address == other.external.address)
        try datapath.expectReturned(second, second.reply(payload: [2]))
        try datapath.expectConsistent(originals: 3)
    }
}
