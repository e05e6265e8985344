import FastNATTesting
import Testing

@testable import FastNAT

/// What forwarding changes in the IP and TCP headers, and what it must leave alone.
@Suite struct HeaderTests {
    @Test(arguments: TransportWay.all, [2, 3, 64, 65, 128, 255] as [UInt8])
    func `the TTL goes down by one`(way: TransportWay, ttl: UInt8) throws {
        try expectKept(way) { $0.ttl = ttl }
    }

    @Test(arguments: TransportWay.all, [0, 1] as [UInt8])
    func `a packet whose TTL is used up goes no further`(way: TransportWay, ttl: UInt8) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let (request, reply) = (conversation.request(), conversation.reply())
        try datapath.expectReported(
            request.with { $0.ttl = ttl }, as: .timeExceeded, at: way.hook, counting: "ttl_expired")
        try datapath.expectReported(
            reply.with { $0.ttl = ttl }, as: .timeExceeded, at: way.hook, on: .container, counting: "ttl_expired")
        #expect(try datapath.installed(conversation).packets == (way.transport == .tcp ? 3 : 2))
    }

    @Test(arguments: TransportWay.all, [0x01, 0x02, 0x03, 0x04, 0xb8, 0xff] as [UInt8])
    func `DSCP and ECN stay`(way: TransportWay, trafficClass: UInt8) throws {
        try expectKept(way) { $0.trafficClass = trafficClass }
    }

    @Test(arguments: Hook.allCases, Transport.allCases)
    func `IPv4 identification and don't fragment stay`(hook: Hook, transport: Transport) throws {
        let way = TransportWay(hook: hook, family: .ipv4, transport: transport)
        for (identification, dontFragment) in [(0xbeef, true), (0xffff, false), (1, false)] as [(UInt16, Bool)] {
            try expectKept(way) {
                $0.ipv4?.identification = identification
                $0.ipv4?.dontFragment = dontFragment
            }
        }
    }

    @Test(arguments: Hook.allCases, Transport.allCases)
    func `the IPv6 flow label stays`(hook: Hook, transport: Transport) throws {
        try expectKept(TransportWay(hook: hook, family: .ipv6, transport: transport)) { $0.ipv6?.flowLabel = 0xfedcb }
    }

    @Test(arguments: stride(from: 4, through: 40, by: 4).map { $0 })
    func `IPv4 options of any length stay`(length: Int) throws {
        for transport in Transport.allCases {
            try expectKept(TransportWay(hook: .tc, family: .ipv4, transport: transport)) {
                $0.ipv4?.options = [UInt8](repeating: 1, count: length - 1) + [0]
                $0.payload = [1, 2, 3]
            }
        }
    }

    @Test(arguments: Way.all, stride(from: 4, through: 40, by: 4).map { $0 })
    func `TCP options of any length stay`(way: Way, length: Int) throws {
        try expectKept(TransportWay(hook: way.hook, family: way.family, transport: .tcp)) {
            $0.tcp?.options = [UInt8](repeating: 1, count: length - 2) + [2, 0]
            $0.payload = [1, 2, 3]
        }
    }

    @Test func `the longest of all headers stay`() throws {
        try expectKept(TransportWay(hook: .tc, family: .ipv4, transport: .tcp)) {
            $0.ipv4?.options = [UInt8](repeating: 1, count: 40)
            $0.tcp?.options = [UInt8](repeating: 1, count: 40)
        }
    }

    @Test(arguments: Way.all)
    func `sequence numbers, window and urgent pointer stay`(way: Way) throws {
        try expectKept(TransportWay(hook: way.hook, family: way.family, transport: .tcp)) {
            $0.tcp?.sequence = 0xffff_fffe
            $0.tcp?.acknowledgement = 0x8000_0001
            $0.tcp?.window = 0
            $0.tcp?.urgentPointer = 0xabcd
            $0.tcp?.flags = [.urg, .ack]
        }
    }

    @Test(arguments: Family.allCases)
    func `the segments of a handshake keep their options`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        let options = Packet.TCP.maximumSegmentSize(1_460) + [4, 2, 1, 3, 3, 7]
        try datapath.expectForwarded(conversation, conversation.request(.syn, options: options))
        try datapath.expectReturned(conversation, conversation.reply([.syn, .ack], options: options))
    }

    /// Expects that packets of both directions that were changed so come out with the change.
    private func expectKept(
        _ way: TransportWay, sourceLocation: SourceLocation = #_sourceLocation, _ change: (inout Packet) -> Void
    ) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation, sourceLocation: sourceLocation)
        let (request, reply) = (conversation.request().with(change), conversation.reply().with(change))
        try datapath.expectForwarded(conversation, request, at: way.hook, sourceLocation: sourceLocation)
        try datapath.expectReturned(conversation, reply, at: way.hook, sourceLocation: sourceLocation)
    }
}
