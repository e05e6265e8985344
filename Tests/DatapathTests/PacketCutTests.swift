import FastNATTesting
import Testing

@testable import FastNAT

/// IPv4 packets that are too long for their next hop and may be fragmented leave in fragments: all but the last through the
/// device, which a test sees there; the last as the packet itself.
@Suite(.serialized) struct PacketCutTests {
    let network: TestNetwork
    let datapath: TestDatapath

    init() throws {
        network = try TestNetwork()
        try network.namespace.ip(["link set ctr mtu 1000", "link set uplink mtu 1000"])
        datapath = try TestDatapath(network: network)
    }

    /// Expects that `packet` leaves as `expected`.
    private func expectCut(
        _ packet: Packet, into expected: [Packet], on side: Side = .uplink,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let output = datapath.device(of: side == .uplink ? .container : .uplink)
        let capture = try Capture(output.name, in: network.namespace, .sent, filter: "ip")
        let outcome = try datapath.outcome(of: packet.bytes, at: .tc, on: side)
        #expect(outcome.verdict == .redirected, sourceLocation: sourceLocation)
        #expect(outcome.counted == [:], sourceLocation: sourceLocation)
        try capture.waitFor(count: expected.count - 1)
        let frames = try capture.stop() + [outcome.packet]
        #expect(frames.count == expected.count, sourceLocation: sourceLocation)
        for (frame, packet) in zip(frames, expected) {
            expectEqualPackets(packet, frame, sourceLocation: sourceLocation)
        }
    }

    private static let payload = (0..<3_333).map { UInt8(truncatingIfNeeded: $0 / 5) }

    @Test(arguments: Transport.allCases)
    func `a packet without DF is cut, in both directions`(transport: Transport) throws {
        let conversation = Conversation(.ipv4, transport)
        try datapath.open(conversation)
        let request = conversation.request(payload: Self.payload).with { $0.ipv4?.dontFragment = false }
        try expectCut(
            request,
            into: conversation.forwarded(request)
                .fragments(of: 980, identification: UInt32(request.ipv4?.identification ?? 0)))
        let reply = conversation.reply(payload: Self.payload).with {
            $0.ipv4?.dontFragment = false
            $0.ipv4?.identification = 0xfffe
            $0.trafficClass = 0xba
        }
        try expectCut(
            reply, into: conversation.returned(reply).fragments(of: 980, identification: 0xfffe), on: .container)
        // The rest of the conversation is as ever.
        try datapath.expectForwarded(conversation, conversation.request(payload: [1]))
        #expect(try datapath.datapath.flows().first?.reply.packets == 2)
    }

    @Test func `the first packet of a flow is cut as well`() throws {
        let conversation = Conversation(.ipv4, .udp)
        let request = conversation.request(payload: Self.payload).with { $0.ipv4?.dontFragment = false }
        try expectCut(
            request,
            into: conversation.forwarded(request)
                .fragments(of: 980, identification: UInt32(request.ipv4?.identification ?? 0)))
        #expect(try datapath.states() == [.unreplied])
    }

    @Test(arguments: [Side.uplink, .container])
    func `fragments that are too long are cut into smaller ones`(side: Side) throws {
        let conversation = Conversation(.ipv4, .udp)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: side, payload: Self.payload, of: 1_480)
        for (fragment, expected) in zip(packet.fragments, packet.expected).prefix(2) {
            #expect(expected.payload.count == 1_480)
            let parts = [
                expected.with { $0.payload = Array($0.payload.prefix(976)) },
                expected.with {
                    $0.payload = Array($0.payload.dropFirst(976))
                    $0.ipv4?.fragmentOffset += 976 / 8
                },
            ]
            try expectCut(fragment, into: parts, on: side)
        }
        try datapath.expectForwarded(packet, 2)
    }

    @Test func `options go along as each one says`() throws {
        let conversation = Conversation(.ipv4, .udp)
        try datapath.open(conversation)
        // Record route: in the first fragment alone. Router alert (copied): in all. RFC 791, 3.1.
        let options: [UInt8] = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 1]
        let request = conversation.request(payload: Self.payload).with {
            $0.ipv4?.dontFragment = false
            $0.ipv4?.options = options
        }
        let fragments = conversation.forwarded(request)
            .fragments(of: 968, identification: UInt32(request.ipv4?.identification ?? 0))
        let expected = fragments.enumerated().map { number, fragment in
            fragment.with {
                if number > 0 { $0.ipv4?.options = [UInt8](repeating: 1, count: 7) + [148, 4, 0, 0, 1] }
            }
        }
        try expectCut(request, into: expected)
    }

    @Test func `a datagram without a checksum keeps none`() throws {
        let conversation = Conversation(.ipv4, .udp)
        try datapath.open(conversation)
        let request = conversation.request(payload: Self.payload).with {
            $0.ipv4?.dontFragment = false
            $0.transportChecksum = .value(0)
        }
        try expectCut(
            request,
            into: conversation.forwarded(request)
                .fragments(of: 980, identification: UInt32(request.ipv4?.identification ?? 0)))
    }

    @Test(arguments: Kind.all)
    func `nothing else is cut`(kind: Kind) throws {
        let network = try TestNetwork()
        try network.namespace.ip(["link set ctr mtu 1400"])
        let datapath = try TestDatapath(network: network)
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let request = conversation.request(payload: Self.payload)
        try datapath.expectReported(request, as: .tooBig(mtu: 1_400), counting: "too_big")
        let fragmentable = request.with { $0.ipv4?.dontFragment = false }
        // The second: one whose segments would be too long, whoever cuts them.
        if kind.family == .ipv6 {
            let fragment = FragmentedPacket(conversation, payload: Self.payload, of: 1_400).fragments[0]
            try datapath.expectReported(fragment, as: .tooBig(mtu: 1_400), counting: "too_big")
            try datapath.expectReported(request, as: .tooBig(mtu: 1_400), counting: "too_big", gsoSize: 1_400)
        } else {
            try datapath.expectDropped(fragmentable, counting: "too_big", gsoSize: 1_400)
            try network.namespace.ip(["link set ctr mtu 68"])
            try datapath.setNextHops(.stale)
            try datapath.expectDropped(fragmentable, counting: "too_big")  // 70 fragments
        }
    }
}
