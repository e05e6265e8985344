import Addresses
import FastNATTesting
import Testing

@testable import FastNAT

/// Packets of known flows: both directions, both hooks.
@Suite struct ForwardingTests {
    @Test(arguments: Family.allCases)
    func `a handshake begins a flow and establishes it`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.states() == [.halfOpen])
        try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
        #expect(try datapath.states() == [.halfOpen])
        try datapath.expectForwarded(conversation, conversation.request())
        #expect(try datapath.states() == [.established])
    }

    @Test(arguments: Family.allCases)
    func `a datagram begins a flow and its answer completes it`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .udp)
        try datapath.expectForwarded(conversation, conversation.request(payload: [1]))
        #expect(try datapath.states() == [.unreplied])
        try datapath.expectReturned(conversation, conversation.reply(payload: [2]))
        #expect(try datapath.states() == [.replied])
    }

    @Test(arguments: TransportWay.all)
    func `XDP makes no flow before TC has seen one`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        try datapath.expectPassed(Conversation(way).request(.syn), at: .xdp)
        #expect(try datapath.states() == [])
    }

    @Test(arguments: Family.allCases)
    func `XDP leaves SYN and SYN+ACK of a known flow to TC`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.expectPassed(conversation.request(.syn), at: .xdp)
        try datapath.expectPassed(conversation.reply([.syn, .ack]), at: .xdp)
    }

    @Test(arguments: TransportWay.all, [0, 1, 2, 3, 64, 1_401])
    func `payloads of any length go both ways`(way: TransportWay, length: Int) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let payload = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 11) }
        for _ in 0..<2 {
            try datapath.expectForwarded(conversation, conversation.request(payload: payload), at: way.hook)
            try datapath.expectReturned(conversation, conversation.reply(payload: payload), at: way.hook)
        }
    }

    static let flags: [Packet.TCPFlags] = [
        [], .ack, [.psh, .ack], [.urg, .ack], [.fin, .ack], [.fin, .psh, .ack], .rst, [.rst, .ack], [.ece, .ack],
        [.cwr, .ack],
        [.fin, .psh, .urg],
    ]

    @Test(arguments: Way.all, flags)
    func `segments with any flags but SYN go both ways`(way: Way, flags: Packet.TCPFlags) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request(flags, payload: [1, 2, 3]), at: way.hook)
        try datapath.expectReturned(conversation, conversation.reply(flags, payload: [4]), at: way.hook)
    }

    @Test(arguments: TransportWay.all)
    func `replies to a client behind a router go to the router`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way).with {
            $0.client.address = way.family.farClient
            $0.clientMAC = TestNetwork.gatewayMAC
        }
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: way.hook)
        try datapath.expectReturned(conversation, conversation.reply(payload: [1]), at: way.hook)
    }

    @Test(arguments: TransportWay.all)
    func `bytes behind the IP packet stay`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let (request, reply) = (conversation.request(payload: [1]), conversation.reply(payload: [1]))
        let trailer = [UInt8](repeating: 0xee, count: 19)
        try datapath.expectForwarded(request, as: conversation.forwarded(request), at: way.hook, trailer: trailer)
        try datapath.expectForwarded(
            reply, as: conversation.returned(reply), at: way.hook, on: .container, trailer: trailer)
    }

    @Test(arguments: TransportWay.all)
    func `flow and mapping count packets and bytes of both directions`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let before = try #require(try datapath.datapath.flows().first)
        let mappingBefore = try datapath.installed(conversation)
        for _ in 0..<3 { try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: way.hook) }
        for _ in 0..<2 { try datapath.expectReturned(conversation, conversation.reply(payload: [1]), at: way.hook) }
        let length = UInt64(conversation.request(payload: [1]).bytes.count - 14)
        let flow = try #require(try datapath.datapath.flows().first)
        #expect(flow.original.packets - before.original.packets == 3)
        #expect(flow.original.bytes - before.original.bytes == 3 * length)
        #expect(flow.reply.packets - before.reply.packets == 2)
        #expect(flow.reply.bytes - before.reply.bytes == 2 * length)
        let mapping = try datapath.installed(conversation)
        #expect(mapping.packets - mappingBefore.packets == 5)
        #expect(mapping.bytes - mappingBefore.bytes == 5 * length)
        #expect(mapping.flows == 1)
    }

    @Test(arguments: TransportWay.all)
    func `a flow is listed with the addresses and ports of its packets`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let flow = try #require(try datapath.datapath.flows().first)
        #expect(flow.original.source.description == conversation.client.description)
        #expect(flow.original.destination.description == conversation.published.description)
        #expect(flow.reply.source.description == conversation.target.description)
        #expect(flow.reply.destination.description == conversation.client.description)
    }
}

extension TestDatapath {
    /// The standard mapping of a conversation's family and transport, with its counters.
    func installed(_ conversation: Conversation) throws -> InstalledMapping {
        let found = try datapath.mappings().first {
            $0.mapping.listen.transport.name == conversation.transport.rawValue
                && ($0.mapping.family == .ipv6) == conversation.published.address.isIPv6
        }
        return try #require(found)
    }
}
