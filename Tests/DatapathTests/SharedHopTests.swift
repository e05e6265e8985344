import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Next hops that flows share: as few as there are ways, whatever the number of flows.
@Suite struct SharedHopTests {
    @Test(arguments: TransportWay.all)
    func `flows that go the same way have one next hop`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        datapath.setNextHops(to: shared_hop())
        let conversations = (0..<20 as Range<UInt16>).map { number in
            Conversation(way).with {
                $0.client.port = 40_000 + number
                ($0.client.address, $0.clientMAC) = (way.family.farClient, TestNetwork.gatewayMAC)
            }
        }
        for conversation in conversations { try datapath.open(conversation) }
        for conversation in conversations {
            try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: way.hook)
            try datapath.expectReturned(conversation, conversation.reply(payload: [2]), at: way.hook)
        }
        #expect(Set(try datapath.liveRecords().map(\.record.reply.hop)).count == 1)
        #expect(datapath.nextHops().count == 1)
    }

    @Test(arguments: TransportWay.all)
    func `flows that go other ways have next hops of their own`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let near = Conversation(way)
        let far = near.with { ($0.client.address, $0.clientMAC) = (way.family.farClient, TestNetwork.gatewayMAC) }
        for conversation in [near, far] { try datapath.open(conversation) }
        for conversation in [near, far, near] {
            try datapath.expectReturned(conversation, conversation.reply(payload: [2]), at: way.hook)
        }
        #expect(Set(try datapath.liveRecords().map(\.record.reply.hop)).count == 2)
    }

    /// As if there were so many ways that all that have the same hash are in use.
    @Test(arguments: Kind.all)
    func `without room for its next hop, a flow asks each time, and XDP passes it`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let now = UInt32(truncatingIfNeeded: monotonicNow() >> 20)
        datapath.setNextHops(to: otherHop(found: now &+ 1_000_000))
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        for _ in 0..<2 {
            try datapath.expectReturned(conversation, conversation.reply(payload: [1]))
            try datapath.expectForwarded(conversation, conversation.request(payload: [1]))
            try datapath.expectPassed(conversation.reply(payload: [1]), at: .xdp, on: .container)
        }
        #expect(try datapath.liveRecords().map(\.record.reply.hop) == [0])
        #expect(datapath.nextHops().allSatisfy { $0.next_hop.ifindex == 999 })
        datapath.setNextHops(to: shared_hop())
    }

    @Test(arguments: Kind.all)
    func `a next hop that nobody has found for two seconds becomes another`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let now = UInt32(truncatingIfNeeded: monotonicNow() >> 20)
        let conversation = Conversation(kind)
        for (age, isReplaced) in [(1_500, false), (2_100, true)] as [(UInt32, Bool)] {
            datapath.setNextHops(to: otherHop(found: now &- age))
            try datapath.open(conversation)
            try datapath.expectReturned(conversation, conversation.reply(payload: [1]))
            #expect(try datapath.liveRecords().allSatisfy { ($0.record.reply.hop != 0) == isReplaced })
            #expect(datapath.nextHops().contains { $0.next_hop.ifindex != 999 } == isReplaced)
            _ = try datapath.datapath.flushFlows()
        }
        datapath.setNextHops(to: shared_hop())
    }

    /// Of an interface that does not exist.
    private func otherHop(found: UInt32) -> shared_hop {
        var hop = shared_hop()
        hop.next_hop.ifindex = 999
        hop.refreshed = found
        return hop
    }
}
