import FastNATTesting
import Testing

@testable import FastNAT

/// Two published ports that lead to one target, and a client that uses one source port for both: only another source
/// port keeps the replies apart.
@Suite struct SourcePortTests {
    @Test(arguments: TransportWay.all)
    func `the second flow gets another source port, and both get their replies`(way: TransportWay) throws {
        let datapath = try TestDatapath(
            ["8080", "8081"].map { way.family.mapping("\($0)/\(way.transport)", to: "80") })
        let first = Conversation(way)
        try datapath.open(first)
        let second = try translated(first.with { $0.published.port = 8081 }, in: datapath)
        #expect(second.translatedPort != first.client.port)
        try datapath.open(second)
        for conversation in [first, second] {
            try datapath.expectForwarded(conversation, conversation.request(payload: [1, 2, 3]), at: way.hook)
            try datapath.expectReturned(conversation, conversation.reply(payload: [4, 5]), at: way.hook)
        }
        #expect(try datapath.datapath.flowCount().flows == 2)
    }

    @Test(arguments: Kind.all)
    func `many flows of one source port to one target are told apart`(kind: Kind) throws {
        let datapath = try TestDatapath([kind.family.mapping("8000-8099/\(kind.transport)", to: "80")])
        let conversations = try (8000..<8100 as Range<UInt16>).map { port in
            let conversation = try translated(Conversation(kind).with { $0.published.port = port }, in: datapath)
            try datapath.open(conversation)
            return conversation
        }
        #expect(Set(conversations.map { $0.translatedPort ?? 0 }).count == conversations.count)
        for conversation in conversations {
            #expect((1024...65_535).contains(conversation.translatedPort ?? 0))
            try datapath.expectForwarded(conversation, conversation.request())
            try datapath.expectReturned(conversation, conversation.reply())
        }
    }

    @Test(arguments: Kind.all)
    func `a source port is kept where another client, target or protocol has it`(kind: Kind) throws {
        let datapath = try TestDatapath(
            Family.allCases.flatMap(\.standardMappings) + [
                kind.family.mapping("8081/\(kind.transport)", to: "81")
            ])
        let other = Conversation(kind).with {
            $0.client.address = kind.family.farClient
            $0.clientMAC = TestNetwork.gatewayMAC
        }
        let otherTarget = Conversation(kind).with {
            $0.published.port = 8081
            $0.target.port = 81
        }
        for conversation in Kind.all.map({ Conversation($0) }) + [other, otherTarget] {
            try datapath.open(conversation)
        }
    }

    @Test(arguments: Kind.all)
    func `a source port is free again when its flow has ended`(kind: Kind) throws {
        let datapath = try TestDatapath(
            ["8080", "8081"].map { kind.family.mapping("\($0)/\(kind.transport)", to: "80") })
        try datapath.open(Conversation(kind))
        _ = try datapath.datapath.flushFlows()
        try datapath.open(Conversation(kind).with { $0.published.port = 8081 })
    }

    /// Sends the first packet, and learns from it which source port the flow was given.
    private func translated(_ conversation: Conversation, in datapath: TestDatapath) throws -> Conversation {
        let outcome = try datapath.outcome(of: conversation.request(.syn).bytes, at: .tc)
        let port = try #require(PacketView(outcome.packet).source?.port)
        let translated = conversation.with { $0.translatedPort = port }
        #expect(outcome.verdict == .redirected)
        expectEqualPackets(translated.forwarded(conversation.request(.syn)), outcome.packet)
        return translated
    }
}
