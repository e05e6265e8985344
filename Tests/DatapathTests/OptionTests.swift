import FastNATTesting
import Testing

@testable import FastNAT

/// IPv4 options: source routes are refused, as the kernel does it, and the rest is the receiver's.
@Suite struct OptionTests {
    /// The option with two more hops, and how far the packet has come.
    private static func route(_ type: UInt8, at pointer: UInt8 = 4) -> [UInt8] {
        [type, 11, pointer, 192, 0, 2, 254, 198, 51, 100, 1]
    }

    static let refused: [[UInt8]] = [
        route(131) + [0], route(137) + [0], route(131, at: 12) + [0], [1] + route(131), [1, 1, 1, 1, 1] + route(137),
        [7, 7, 4, 0, 0, 0, 0] + route(131) + [0, 0], [148, 4, 0, 0] + route(137) + [1], [131, 3, 4, 0],
        [UInt8](repeating: 1, count: 37) + [131, 3, 4],
    ]

    /// Behind the end, within another option, and behind one whose length says nothing.
    static let kept: [[UInt8]] = [
        [0] + route(131), [7, 12] + route(131).dropLast(), [7, 0] + route(131) + [0, 0, 0],
        [68, 8, 5, 0, 131, 137, 131, 3],
        [1, 1, 1, 130] + [40] + route(131),
    ]

    @Test(arguments: Transport.allCases, refused)
    func `a source route is refused, wherever it stands among the options`(transport: Transport, options: [UInt8])
        throws
    {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, transport)
        try datapath.expectDropped(conversation.request(.syn).optioned(options), counting: "source_routed")
        #expect(try datapath.leftovers() == [])
        try datapath.open(conversation)
        for hook in [Hook.xdp, .tc] {
            try datapath.expectDropped(conversation.request().optioned(options), at: hook, counting: "source_routed")
        }
        let reply = conversation.reply().optioned(options)
        try datapath.expectDropped(reply, on: .container, counting: "source_routed")
        try datapath.expectForwarded(conversation, conversation.request())
    }

    @Test(arguments: Transport.allCases, kept)
    func `what only looks like one goes its way`(transport: Transport, options: [UInt8]) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, transport)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request().optioned(options))
        try datapath.expectReturned(conversation, conversation.reply().optioned(options))
    }

    @Test(arguments: Transport.allCases)
    func `XDP leaves packets with options to TC`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, transport)
        try datapath.open(conversation)
        try datapath.expectPassed(conversation.request().optioned([1, 1, 1, 0]), at: .xdp)
    }

    @Test func `echoes, fragments and errors with a source route are refused, too`() throws {
        let datapath = try TestDatapath()
        try datapath.masquerade(.ipv4)
        let outbound = try datapath.open(Outbound(.ipv4, .icmp))
        for options in Self.refused {
            let request = outbound.request().optioned(options)
            try datapath.expectDropped(request, on: .container, counting: "source_routed")
        }
        let conversation = Conversation(.ipv4, .udp)
        try datapath.open(conversation)
        let whole = conversation.request(payload: [UInt8](repeating: 1, count: 100))
        for fragment in whole.fragments(of: 48, identification: 1) {
            try datapath.expectDropped(fragment.optioned(Self.refused[0]), counting: "source_routed")
        }
        let error = Packet.icmpError(
            from: conversation.client.address, to: conversation.published.address, .portUnreachable,
            about: conversation.returned(conversation.reply())
        ).with { $0.link = (conversation.clientMAC, conversation.uplinkMAC) }
        try datapath.expectDropped(error.optioned(Self.refused[0]), counting: "source_routed")
    }

    @Test func `a source route to no published port is the stack's to refuse`() throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, .tcp).with { $0.published.port = 9 }
        try datapath.expectPassed(conversation.request(.syn).optioned(Self.refused[0]))
    }
}

extension Packet {
    fileprivate func optioned(_ options: [UInt8]) -> Packet { with { $0.ipv4?.options = options } }
}
