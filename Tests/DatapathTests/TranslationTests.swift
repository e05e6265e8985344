import FastNATTesting
import Testing

@testable import FastNAT

/// Mappings whose target is of the other family: headers are exchanged, and the target sees this host as the client.
@Suite struct TranslationTests {
    let datapath: TestDatapath

    init() throws {
        datapath = try TestDatapath(
            Transport.allCases.flatMap {
                ["[::]:8080/\($0) \(Family.ipv4.target):80", "0.0.0.0:8080/\($0) [\(Family.ipv6.target)]:80"]
            })
    }

    @Test(arguments: Kind.all)
    func `requests and replies cross, headers intact`(kind: Kind) throws {
        let conversation = Conversation(kind)
        try open(conversation)
        for payload in [[], [1], [UInt8](repeating: 7, count: 1_200), [UInt8](repeating: 9, count: 1_400)] {
            try expectCrossed(conversation.request(payload: payload).with { $0.trafficClass = 0xb9 }, conversation)
            try expectReturned(conversation, payload: payload) { $0.trafficClass = 0x2e }
        }
        #expect(try datapath.datapath.flowCount().flows == 1)
    }

    @Test(arguments: Kind.all)
    func `a checksum that was wrong stays wrong`(kind: Kind) throws {
        let conversation = Conversation(kind)
        try open(conversation)
        try expectCrossed(
            conversation.request(payload: [1, 2, 3]).with {
                $0.tcp?.checksum = .offBy(5)
                $0.udp?.checksum = .offBy(5)
            }, conversation)
    }

    @Test(arguments: Kind.all)
    func `XDP leaves such flows to TC`(kind: Kind) throws {
        let conversation = Conversation(kind)
        try open(conversation)
        try datapath.expectPassed(conversation.request(payload: [1]), at: .xdp)
    }

    @Test(arguments: Kind.all)
    func `two clients with one source port are told apart`(kind: Kind) throws {
        let first = Conversation(kind)
        let second = Conversation(kind).with { $0.client = Packet.Endpoint(kind.family.farClient, port: 40_000) }
        try open(first)
        let request = second.request(.syn)
        let outcome = try datapath.outcome(of: request.bytes, at: .tc)
        #expect(outcome.verdict == .redirected)
        let flows = try datapath.datapath.flows()
        #expect(Set(flows.map(\.reply.destination.port)).count == 2)
    }

    @Test(arguments: Family.allCases)
    func `after a RST of the client, a SYN goes on on the flow`(family: Family) throws {
        let conversation = Conversation(family, .tcp)
        try open(conversation)
        try expectCrossed(conversation.request(.rst), conversation)
        try expectCrossed(conversation.request(.syn), conversation)
        #expect(try datapath.states() == [.closing])
        try expectReturned(conversation, [.syn, .ack])
        #expect(try datapath.states() == [.established])
    }

    @Test func `what the other family cannot say is dropped`() throws {
        let udp = Conversation(.ipv4, .udp)
        try datapath.expectDropped(udp.request().with { $0.udp?.checksum = .zero }, counting: "untranslatable")
        let tcp = Conversation(.ipv4, .tcp)
        let options = tcp.request(.syn).with { $0.ipv4?.options = [1, 1, 1, 1] }
        try datapath.expectDropped(options, counting: "untranslatable")
        for family in Family.allCases {
            let conversation = Conversation(family, .udp)
            let fragments = conversation.request(payload: [UInt8](repeating: 1, count: 100))
                .fragments(of: 48, identification: 1)
            try datapath.expectDropped(fragments[0], counting: "untranslatable")
        }
        #expect(try datapath.leftovers() == [])
    }

    @Test(arguments: Kind.all)
    func `the MTU is that of the other family`(kind: Kind) throws {
        let conversation = Conversation(kind)
        try open(conversation)
        let headers = kind.transport == .tcp ? 20 : 8
        // 1,500 bytes on the container's network, less the header that the packet will have there.
        let fits = 1_500 - headers - (kind.family == .ipv4 ? 40 : 20)
        try expectCrossed(conversation.request(payload: [UInt8](repeating: 1, count: fits)), conversation)
        try datapath.expectReported(
            conversation.request(payload: [UInt8](repeating: 1, count: fits + 1)),
            as: .tooBig(mtu: kind.family == .ipv4 ? 1_480 : 1_520), counting: "too_big")
        try datapath.expectReported(
            conversation.request().with { $0.ttl = 1 }, as: .timeExceeded, counting: "ttl_expired")
        // The container is told in its own family.
        let inside = inside(conversation)
        let reply = inside.reply(
            payload: [UInt8](repeating: 1, count: 1_501 - headers - (kind.family == .ipv4 ? 20 : 40)))
        try datapath.expectReported(
            reply, as: .tooBig(mtu: kind.family == .ipv4 ? 1_520 : 1_480), on: .container, counting: "too_big")
    }

    private func open(_ conversation: Conversation) throws {
        try expectCrossed(conversation.request(.syn), conversation)
        try expectReturned(conversation, [.syn, .ack])
        if conversation.transport == .tcp { try expectCrossed(conversation.request(), conversation) }
    }

    private func expectCrossed(_ request: Packet, _ conversation: Conversation) throws {
        let other = conversation.published.address.isIPv6 ? Family.ipv4 : .ipv6
        let expected = request.crossed(
            from: Packet.Endpoint(other.containerSide, port: conversation.client.port),
            to: Packet.Endpoint(other.target, port: 80), over: (conversation.containerMAC, conversation.targetMAC))
        try expect(request, expected, on: .uplink)
    }

    private func expectReturned(
        _ conversation: Conversation, _ flags: Packet.TCPFlags = .ack, payload: [UInt8] = [],
        _ change: (inout Packet) -> Void = { _ in }
    ) throws {
        let reply = inside(conversation).reply(flags, payload: payload).with(change)
        let expected = reply.crossed(
            from: conversation.published, to: conversation.client,
            over: (conversation.uplinkMAC, conversation.clientMAC))
        try expect(reply, expected, on: .container)
    }

    /// The conversation as the container has it.
    private func inside(_ conversation: Conversation) -> Conversation {
        let other = conversation.published.address.isIPv6 ? Family.ipv4 : .ipv6
        return conversation.with {
            $0.client = Packet.Endpoint(other.containerSide, port: $0.client.port)
            $0.target = Packet.Endpoint(other.target, port: 80)
        }
    }

    /// An identification that fastnat has given is any.
    private func expect(_ packet: Packet, _ expected: Packet, on side: Side) throws {
        let outcome = try datapath.outcome(of: packet.bytes, at: .tc, on: side)
        #expect(outcome.verdict == .redirected)
        #expect(outcome.counted == [:])
        let identification = UInt16(outcome.packet[18]) << 8 | UInt16(outcome.packet[19])
        let same = expected.with { if $0.ipv4?.dontFragment == false { $0.ipv4?.identification = identification } }
        #expect(diff(same.bytes, outcome.packet) == [])
    }
}

extension Family {
    /// This host's address towards containers.
    fileprivate var containerSide: Packet.Address { self == .ipv4 ? "172.17.0.1" : "fd00:17::1" }
}

extension Packet {
    /// The packet as RFC 7915 has it in the other family.
    fileprivate func crossed(
        from source: Endpoint, to destination: Endpoint, over link: (source: MAC, destination: MAC)
    )
        -> Packet
    {
        var copy = Packet(.between(source.address, destination.address), transport, payload: payload)
        copy.source = source
        copy.destination = destination
        copy.ttl = ttl - 1
        copy.trafficClass = trafficClass
        copy.link = link
        let length = copy.bytes.count - 14
        copy.ipv4?.dontFragment = length > 1_260
        return copy
    }
}
