import FastNATTesting
import Testing

@testable import FastNAT

/// What a RST does to a flow: it waits for what else comes (RFC 7857, 2.2), for anybody can send one.
@Suite struct ResetTests {
    @Test(arguments: Way.all, [Side.uplink, .container])
    func `after a RST, any other segment of either side opens the flow again`(way: Way, side: Side) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        for sender in [side, side, .uplink, .container] {
            try datapath.reset(conversation, by: sender, at: way.hook)
            #expect(try datapath.states() == [.closing])
            try datapath.send(conversation, .ack, by: side, at: way.hook)
            #expect(try datapath.states() == [.established])
        }
        try datapath.reset(conversation, by: side, at: way.hook)
        try datapath.reset(conversation, by: side, at: way.hook)
        #expect(try datapath.states() == [.closing])
        #expect(try datapath.datapath.flowCount().halfOpen == 0)
    }

    @Test(arguments: Way.all, [Side.uplink, .container])
    func `a connection that both sides have closed is not opened again by what follows a RST`(way: Way, side: Side)
        throws
    {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        try datapath.send(conversation, [.fin, .ack], by: .uplink, at: way.hook)
        try datapath.send(conversation, [.fin, .ack], by: .container, at: way.hook)
        try datapath.reset(conversation, by: side, at: way.hook)
        try datapath.send(conversation, .ack, by: .uplink, at: way.hook)
        try datapath.send(conversation, .ack, by: .container, at: way.hook)
        #expect(try datapath.states() == [.closing])
    }

    @Test(arguments: Family.allCases)
    func `a forged RST with a SYN behind it ends no connection`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.reset(conversation, by: .uplink)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.datapath.flows().first?.original.packets == 4)
        #expect(try datapath.states() == [.closing])
        try datapath.expectReturned(conversation, conversation.reply())  // the challenge ACK of RFC 5961, 4.2
        #expect(try datapath.states() == [.established])
    }

    @Test(arguments: Family.allCases)
    func `a connection really reset by the client and begun anew on its ports is established`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.reset(conversation, by: .uplink)
        try datapath.open(conversation)
        #expect(try datapath.states() == [.established])
        #expect(try datapath.datapath.flowCount().flows == 1)
    }

    @Test(arguments: Family.allCases)
    func `after a RST, a SYN follows the mapping where that has changed`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.datapath.replaceMappings([try PortMapping(parsing: family.mapping("8080/tcp", to: "81"))])
        try datapath.expectForwarded(conversation, conversation.request())
        try datapath.reset(conversation, by: .uplink)
        try datapath.open(conversation.with { $0.target.port = 81 })
        #expect(try datapath.datapath.flowCount().flows == 1)
    }

    @Test(arguments: Family.allCases)
    func `a RST of the target ends the connection for a SYN`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.reset(conversation, by: .container)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.states() == [.halfOpen])
        #expect(try datapath.datapath.flows().first?.original.packets == 1)
    }
}

/// Handshakes other than the usual one (RFC 5382, REQ-2; RFC 9293, 3.5).
@Suite struct HandshakeTests {
    @Test(arguments: Way.all)
    func `simultaneous open: both SYNs, then both SYN+ACKs`(way: Way) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        try datapath.expectReturned(conversation, conversation.reply(.syn))
        #expect(try datapath.states() == [.halfOpen])
        try datapath.expectForwarded(conversation, conversation.request([.syn, .ack]))
        try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
        #expect(try datapath.states() == [.established])
        try datapath.send(conversation, .ack, by: .container, at: way.hook)
    }

    @Test(arguments: Way.all)
    func `split handshake: the target answers with an ACK and a SYN of its own`(way: Way) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        try datapath.expectReturned(conversation, conversation.reply(.ack))
        try datapath.expectReturned(conversation, conversation.reply(.syn))
        #expect(try datapath.states() == [.halfOpen])
        try datapath.expectForwarded(conversation, conversation.request([.syn, .ack]))
        #expect(try datapath.states() == [.established])
        try datapath.send(conversation, .ack, by: .container, at: way.hook)
    }
}

extension TestDatapath {
    /// Has a side send a RST, and expects that it is translated like everything else.
    fileprivate func reset(_ conversation: Conversation, by side: Side, at hook: Hook = .tc) throws {
        try send(conversation, side == .uplink ? .rst : [.rst, .ack], by: side, at: hook)
    }

    fileprivate func send(_ conversation: Conversation, _ flags: Packet.TCPFlags, by side: Side, at hook: Hook) throws {
        if side == .uplink {
            try expectForwarded(conversation, conversation.request(flags), at: hook)
        } else {
            try expectReturned(conversation, conversation.reply(flags), at: hook)
        }
    }
}
