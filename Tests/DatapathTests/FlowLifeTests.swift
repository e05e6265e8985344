import FastNATTesting
import Testing

@testable import FastNAT

/// How flows go from one state to the next, and end.
@Suite struct FlowLifeTests {
    @Test(arguments: Way.all)
    func `a FIN from both sides closes a flow, from one side it does not`(way: Way) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request([.fin, .ack]), at: way.hook)
        #expect(try datapath.states() == [.established])
        try datapath.expectReturned(conversation, conversation.reply(.ack, payload: [1]), at: way.hook)
        #expect(try datapath.states() == [.established])
        try datapath.expectReturned(conversation, conversation.reply([.fin, .ack]), at: way.hook)
        #expect(try datapath.states() == [.closing])
        try datapath.expectForwarded(conversation, conversation.request(.ack), at: way.hook)
        #expect(try datapath.states() == [.closing])
    }

    @Test(arguments: Way.all, [Side.uplink, .container])
    func `a RST from either side closes a flow`(way: Way, side: Side) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        if side == .uplink {
            try datapath.expectForwarded(conversation, conversation.request(.rst), at: way.hook)
        } else {
            try datapath.expectReturned(conversation, conversation.reply([.rst, .ack]), at: way.hook)
        }
        #expect(try datapath.states() == [.closing])
    }

    @Test(arguments: Family.allCases)
    func `a refused connection is closing and never established`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        try datapath.expectReturned(conversation, conversation.reply([.rst, .ack]))
        #expect(try datapath.states() == [.closing])
    }

    @Test(arguments: Family.allCases)
    func `an ACK without the target's SYN+ACK establishes nothing`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        try datapath.expectForwarded(conversation, conversation.request(.ack))
        #expect(try datapath.states() == [.halfOpen])
        try datapath.expectReturned(conversation, conversation.reply(.ack))
        #expect(try datapath.states() == [.halfOpen])
    }

    @Test(arguments: Way.all)
    func `a handshake whose last segment is seen at either hook establishes the flow`(way: Way) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
        try datapath.expectForwarded(conversation, conversation.request(.ack, payload: [1]), at: way.hook)
        #expect(try datapath.states() == [.established])
        #expect(try datapath.datapath.flowCount().halfOpen == 0)
    }

    @Test(arguments: Family.allCases, [[.fin, .ack], .rst] as [Packet.TCPFlags])
    func `a SYN on a closing flow's ports begins a new flow`(family: Family, end: Packet.TCPFlags) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request(end))
        try datapath.expectReturned(conversation, conversation.reply(end))
        try datapath.expectPassed(conversation.request(.syn), at: .xdp)
        #expect(try datapath.states() == [.closing])
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.states() == [.halfOpen])
        #expect(try datapath.datapath.flows().first?.original.packets == 1)
        try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
        try datapath.expectForwarded(conversation, conversation.request())
        #expect(try datapath.states() == [.established])
        #expect(try datapath.datapath.flowCount().flows == 1)
    }

    @Test(arguments: Family.allCases)
    func `a SYN on an open or half-closed flow goes on on it`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.datapath.flows().first?.original.packets == 2)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.states() == [.established])
        try datapath.expectForwarded(conversation, conversation.request([.fin, .ack]))
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.states() == [.established])
        #expect(try datapath.datapath.flows().first?.original.packets == 7)
    }

    @Test(arguments: Family.allCases)
    func `a SYN with ACK, RST or FIN, or a RST, of a closing flow begins no new one`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request([.fin, .ack]))
        try datapath.expectReturned(conversation, conversation.reply([.fin, .ack]))
        for flags in [[.syn, .ack], [.syn, .rst], [.syn, .fin], .rst, .ack] as [Packet.TCPFlags] {
            try datapath.expectForwarded(conversation, conversation.request(flags))
            try datapath.expectReturned(conversation, conversation.reply(flags))
        }
        try datapath.expectReturned(conversation, conversation.reply(.syn))
        #expect(try datapath.states() == [.closing])
    }

    @Test(arguments: TransportWay.all)
    func `a flush ends flows at once`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        #expect(try datapath.datapath.flushFlows() == 1)
        #expect(try datapath.states() == [])
        #expect(try datapath.leftovers() == [])
        #expect(try datapath.installed(conversation).flows == 0)
        try datapath.expectPassed(conversation.reply(), at: way.hook, on: .container)
        if way.transport == .tcp || way.hook == .xdp {
            try datapath.expectPassed(conversation.request(), at: way.hook)
        } else {
            try datapath.open(conversation)  // a datagram begins the next one
        }
    }

    @Test(arguments: Kind.all)
    func `a flush of one mapping leaves the others' flows`(kind: Kind) throws {
        let datapath = try TestDatapath()
        for other in Kind.all { try datapath.open(Conversation(other)) }
        let mapping = try datapath.installed(Conversation(kind)).mapping
        #expect(try datapath.datapath.flushFlows(of: mapping.listen) == 1)
        #expect(try datapath.datapath.flowCount().flows == 3)
        for other in Kind.all where other.testDescription != kind.testDescription {
            try datapath.expectForwarded(Conversation(other), Conversation(other).request())
        }
        try datapath.expectPassed(Conversation(kind).reply(), on: .container)
    }

    @Test(arguments: TransportWay.all)
    func `the flows of a removed mapping: TCP drains, UDP ends`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        try datapath.datapath.removeMappings([datapath.installed(conversation).mapping.listen])
        if way.transport == .tcp {
            try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: way.hook)
            try datapath.expectReturned(conversation, conversation.reply(payload: [1]), at: way.hook)
        } else {
            #expect(try datapath.states() == [])
            try datapath.expectPassed(conversation.request(), at: way.hook)
        }
        let next = conversation.with { $0.client.port += 1 }
        try datapath.expectPassed(next.request(.syn))
    }

    /// Those with ids in a row are looked for together.
    @Test func `of mappings that are removed at once the flows end, and of those between them none`() throws {
        let datapath = try TestDatapath((8_080...8_085).map { Family.ipv4.mapping("\($0)/udp", to: "80") })
        let conversations = (0..<6).map { number in
            Conversation(.ipv4, .udp, clientPort: 20_000 + number).with { $0.published.port = 8_080 + UInt16(number) }
        }
        for conversation in conversations { try datapath.open(conversation) }
        let listens = try datapath.datapath.mappings().map(\.mapping.listen)
        try datapath.datapath.removeMappings(
            listens.filter { [8_084, 8_080, 8_083, 8_081].contains($0.ports.first) })
        let left = [conversations[2], conversations[5]]
        let ports = try datapath.datapath.flows().map(\.original.destination.port)
        #expect(ports.sorted() == [8_082, 8_085])
        for conversation in left { try datapath.expectForwarded(conversation, conversation.request()) }
    }

    @Test(arguments: Kind.all)
    func `a mapping in the place of a removed one gets an identifier and counters of its own`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        try datapath.datapath.removeMappings([datapath.installed(conversation).mapping.listen])
        try datapath.add([kind.family.mapping("8080/\(kind.transport)", to: "81")])
        #expect(try datapath.installed(conversation).packets == 0)
        #expect(try datapath.installed(conversation).flows == 0)
        let next = conversation.with {
            $0.client.port += 1
            $0.target.port = 81
        }
        try datapath.open(next)
        #expect(try datapath.installed(next).flows == 1)
        // The drained connection still goes where it went.
        if kind.transport == .tcp { try datapath.expectForwarded(conversation, conversation.request()) }
    }
}
