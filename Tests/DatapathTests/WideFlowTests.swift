import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Flows with IPv6 addresses, which take two places of the table: one for what every flow has, and the next for the addresses.
@Suite struct WideFlowTests {
    @Test func `flows of both families share a table to the last place`() throws {
        let datapath = try TestDatapath()
        let wide = (0..<400).map { Conversation(.ipv6, .udp, clientPort: 20_000 + $0) }
        let narrow = (0..<224).map { Conversation(.ipv4, .udp, clientPort: 20_000 + $0) }
        for conversation in wide + narrow { try datapath.openSilently(conversation) }
        for kind in [Kind(family: .ipv4, transport: .udp), Kind(family: .ipv6, transport: .udp)] {
            try datapath.expectDropped(Conversation(kind).request(), counting: "table_full")
        }
        let count = try datapath.datapath.flowCount()
        #expect((count.flows, count.wide, count.halfOpen) == (624, 400, 0))
        try datapath.expectConsistent(originals: 624)
        for conversation in [wide[0], wide[399], narrow[0], narrow[223]] {
            for hook in Hook.allCases {
                try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: hook)
                try datapath.expectReturned(conversation, conversation.reply(payload: [1]), at: hook)
            }
        }
    }

    @Test func `one over IPv6 has two half-open ones over IPv4 give way`() throws {
        let datapath = try TestDatapath()
        let half = (0..<256).map { Conversation(.ipv4, .udp, clientPort: 20_000 + $0).request().bytes }
        #expect(try datapath.run(half, at: .tc).allSatisfy { $0.action == 7 })
        try datapath.expectForwarded(Conversation(.ipv6, .udp), Conversation(.ipv6, .udp).request())
        let count = try datapath.datapath.flowCount()
        #expect((count.flows, count.wide, count.halfOpen) == (255, 1, 255))
        try datapath.expectConsistent(originals: 255)
    }

    /// They have had all places of some words of the bitmap, which a search must not get stuck in.
    @Test func `one over IPv6 begins beside many over IPv4 that have just died`() throws {
        let datapath = try TestDatapath(flows: 4_096)
        let some = (0..<40).map { Conversation(.ipv4, .udp, clientPort: 20_000 + $0).request().bytes }
        for count in [2, 20] {
            for _ in 0..<count {
                #expect(try datapath.run(some, at: .tc).allSatisfy { $0.action == 7 })
                #expect(try datapath.datapath.flushFlows() == 40)
            }
            try datapath.open(Conversation(.ipv6, .udp))
            #expect(try datapath.datapath.flushFlows() == 1)
        }
    }

    /// Whoever has found the flow just before it died writes its counters after that: not into addresses.
    @Test func `the place of a flow that has just died holds no addresses`() throws {
        let datapath = try TestDatapath()
        try datapath.changeSettings { $0.max_half_open = $0.max_flows }
        let all = (0..<1_024).map { Conversation(.ipv4, .udp, clientPort: 20_000 + $0).request().bytes }
        let conversation = Conversation(.ipv6, .udp)
        try eventually("a packet within a second of the flows' end") {
            #expect(try datapath.run(all, at: .tc).allSatisfy { $0.action == 7 })
            let begin = monotonicNow()
            #expect(try datapath.datapath.flushFlows() == 1_024)
            let outcome = try datapath.outcome(of: conversation.request().bytes, at: .tc)
            guard monotonicNow() - begin < 900_000_000 else {
                _ = try datapath.datapath.flushFlows()
                return false
            }
            #expect(outcome.verdict == .dropped && outcome.counted == ["table_full": 1])
            return true
        }
        try datapath.ageDeaths(by: 2_048)
        try datapath.open(conversation)
        // What has held addresses may do so again at once.
        #expect(try datapath.datapath.flushFlows() == 1)
        try datapath.open(conversation)
    }
}

extension TestDatapath {
    /// Has flows that are dead have died so many ticks earlier.
    fileprivate func ageDeaths(by ticks: UInt32) throws {
        for number in 0..<maps.slotCount {
            var record = try #require(try maps.record(number))
            record.original_ends.source &-= ticks
            try maps.setRecord(number, record)
        }
    }
}
