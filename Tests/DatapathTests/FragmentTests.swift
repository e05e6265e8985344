import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Fragments of datagrams: later ones have no ports, and find them in what the first one has left.
@Suite struct FragmentTests {
    @Test(arguments: FragmentWay.all)
    func `fragments in order are translated`(way: FragmentWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: way.side)
        #expect(packet.fragments.count == 3)
        for number in packet.fragments.indices { try datapath.expectForwarded(packet, number) }
        // Next hops that have to be looked up anew, and duplicates.
        try datapath.setNextHops(.stale)
        for number in [2, 1, 0, 0, 2] { try datapath.expectForwarded(packet, number) }
        let flow = try #require(try datapath.datapath.flows().first)
        let half = way.side == .uplink ? flow.original : flow.reply
        #expect(half.packets == 8 + (way.kind.transport == .tcp && way.side == .uplink ? 2 : 1))
    }

    @Test(arguments: TransportWay.all.filter { $0.hook == .xdp })
    func `XDP leaves fragments to TC`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        for side in [Side.uplink, .container] {
            let packet = FragmentedPacket(conversation, from: side)
            for fragment in packet.fragments { try datapath.expectPassed(fragment, at: .xdp, on: side) }
        }
    }

    @Test(arguments: Kind.all)
    func `a first fragment begins a flow`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        let syn = conversation.request(.syn, payload: [UInt8](repeating: 3, count: 100))
        let packet = FragmentedPacket(.uplink, syn, conversation.forwarded(syn), of: 48, 7)
        for number in packet.fragments.indices { try datapath.expectForwarded(packet, number) }
        #expect(try datapath.states() == [kind.transport == .tcp ? .halfOpen : .unreplied])
    }

    @Test(arguments: FragmentWay.all)
    func `interleaved datagrams of several flows keep to their own`(way: FragmentWay) throws {
        let datapath = try TestDatapath()
        var packets: [FragmentedPacket] = []
        for port in [40_000, 40_001, 40_002] as [UInt16] {
            let conversation = Conversation(way.kind.family, way.kind.transport, clientPort: port)
            try datapath.open(conversation)
            packets.append(FragmentedPacket(conversation, from: way.side, identification: UInt32(port)))
        }
        // Another client may use the same identification.
        let other = Conversation(way.kind).with {
            $0.client.address = way.kind.family.farClient
            $0.clientMAC = TestNetwork.gatewayMAC
        }
        try datapath.open(other)
        packets.append(FragmentedPacket(other, from: way.side, identification: 40_000))
        for number in 0..<3 {
            for packet in packets { try datapath.expectForwarded(packet, number) }
        }
    }

    @Test(arguments: FragmentWay.all)
    func `an identification used anew leads to the new datagram's flow`(way: FragmentWay) throws {
        let datapath = try TestDatapath()
        for port in [40_000, 40_001] as [UInt16] {
            let conversation = Conversation(way.kind.family, way.kind.transport, clientPort: port)
            try datapath.open(conversation)
            let packet = FragmentedPacket(conversation, from: way.side)
            for number in packet.fragments.indices { try datapath.expectForwarded(packet, number) }
        }
    }

    @Test(arguments: Kind.all)
    func `the two sides of the host do not share notes`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation)
        try datapath.expectForwarded(packet, 0)
        let here = packet.fragments[1].with { $0.ethernet?.destination = datapath.network.container.mac }
        try datapath.expectDropped(here, on: .container, counting: "fragment_held")
        try datapath.expectForwarded(packet, 1)
    }

    @Test(arguments: FragmentWay.all)
    func `fragments without their first wait for it`(way: FragmentWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: way.side)
        for number in [2, 1] { try datapath.expectKept(packet, number) }
        let other = FragmentedPacket(conversation, from: way.side, identification: 100)
        for number in packet.fragments.indices { try datapath.expectForwarded(other, number) }
    }

    @Test(arguments: FragmentWay.all)
    func `a note is good for as long as reassembly may take`(way: FragmentWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: way.side)
        try datapath.expectForwarded(packet, 0)
        let lifetime: UInt64 = way.kind.family == .ipv4 ? 30 : 60
        try datapath.ageFragmentNotes(by: lifetime - 1)
        try datapath.expectForwarded(packet, 1)
        try datapath.ageFragmentNotes(by: 2)
        try datapath.expectKept(packet, 2)
    }

    @Test(arguments: Kind.all)
    func `fragments of a flow that has ended are dropped`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation)
        try datapath.expectForwarded(packet, 0)
        _ = try datapath.datapath.flushFlows()
        try datapath.expectDropped(packet.fragments[1], counting: "flow_race")
    }

    @Test(arguments: Kind.all)
    func `the stack's own fragments go up the stack as they are`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let foreign = Conversation(kind).with { $0.published.port = 9_999 }
        for side in [Side.uplink, .container] {
            let packet = FragmentedPacket(foreign, from: side)
            for fragment in packet.fragments { try datapath.expectPassed(fragment, on: side) }
            // The first may come anew.
            for fragment in packet.fragments.reversed() { try datapath.expectPassed(fragment, on: side) }
        }
        #expect(try datapath.states() == [])
    }

    @Test(arguments: Kind.all)
    func `fragments for somebody else go up the stack, whatever their order`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let transit = Conversation(kind).with { $0.published.address = kind.family.stranger }
        let packet = FragmentedPacket(transit)
        for number in [2, 1] { try datapath.expectPassed(packet.fragments[number], counting: "fragment") }
        try datapath.expectPassed(packet.fragments[0], counting: kind.transport == .udp ? "not_local" : nil)
        for number in [2, 1] { try datapath.expectPassed(packet.fragments[number]) }
        #expect(try datapath.maps.fragmentQueues.keys().isEmpty)
    }

    @Test(arguments: Family.allCases)
    func `other protocols' fragments are left alone`(family: Family) throws {
        let datapath = try TestDatapath()
        let gre = Packet.ip(
            from: family.client, to: family.host, protocolNumber: 47, payload: [UInt8](repeating: 1, count: 100)
        ).with { $0.link = (TestNetwork.clientMAC, "02:00:00:00:01:01") }
        for fragment in gre.fragments(of: 48, identification: 5).reversed() {
            for hook in Hook.allCases { try datapath.expectPassed(fragment, at: hook) }
        }
    }

    @Test(arguments: Kind.all)
    func `broadcast and other hosts' fragments are left alone`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        for fragment in FragmentedPacket(conversation).fragments {
            for mac in ["ff:ff:ff:ff:ff:ff", "02:00:00:00:99:99"] as [Packet.MAC] {
                try datapath.expectPassed(fragment.with { $0.ethernet?.destination = mac })
            }
        }
    }

    @Test(arguments: Transport.allCases)
    func `IPv6 packets in a single fragment are translated by themselves`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv6, transport)
        try datapath.open(conversation)
        for request in [conversation.request(), conversation.request(payload: [1, 2, 3])] {
            let packet = request.with {
                $0.ipv6?.extensionHeaders = [.fragment(offset: 0, more: false, identification: 99)]
            }
            try datapath.expectPassed(packet, at: .xdp)
            try datapath.expectForwarded(conversation, packet)
        }
        #expect(try datapath.maps.fragmentNotes.keys().isEmpty, "nothing follows (RFC 6946)")
    }

    @Test(arguments: FragmentWay.all)
    func `the sum that a device has made of a packet or fragment stays right`(way: FragmentWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: way.side)
        let whole = way.side == .uplink ? conversation.request(payload: [1]) : conversation.reply(payload: [1])
        for fragment in packet.fragments + [whole] {
            guard let fits = try datapath.sumFits(fragment.bytes, on: way.side) else { return }
            #expect(fits)
        }
    }

    @Test
    func `a datagram without a checksum keeps none`() throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, .udp)
        try datapath.open(conversation)
        let whole = conversation.request(payload: [UInt8](repeating: 9, count: 100))
            .with { $0.transportChecksum = .value(0) }
        let packet = FragmentedPacket(.uplink, whole, conversation.forwarded(whole), of: 48, 3)
        for number in packet.fragments.indices { try datapath.expectForwarded(packet, number) }
    }

    @Test
    func `IPv4 options are no obstacle`() throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, .tcp)
        try datapath.open(conversation)
        let whole = conversation.request(payload: [UInt8](repeating: 9, count: 100), options: [1, 1, 1, 1])
            .with { $0.ipv4?.options = [UInt8](repeating: 1, count: 40) }
        let packet = FragmentedPacket(.uplink, whole, conversation.forwarded(whole), of: 48, 3)
        for number in packet.fragments.indices { try datapath.expectForwarded(packet, number) }
    }

    @Test(arguments: Kind.all)
    func `a fragment's hop limit counts as any packet's`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation)
        try datapath.expectForwarded(packet, 0)
        try datapath.expectDropped(packet.fragments[1].with { $0.ttl = 1 }, counting: "ttl_expired")
        try datapath.expectReported(packet.fragments[0].with { $0.ttl = 1 }, as: .timeExceeded, counting: "ttl_expired")
    }

    // MARK: made to deceive

    @Test(arguments: Family.allCases)
    func `a TCP header spread over fragments is dropped`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        let strange = FragmentedPacket(conversation, of: 8)
        // Of no known flow, it is a packet from the middle of a connection.
        try datapath.expectPassed(strange.fragments[0])
        try datapath.open(conversation)
        for size in [8, 16] {
            let packet = FragmentedPacket(conversation, of: size, identification: UInt32(size))
            try datapath.expectDropped(packet.fragments[0], counting: "tiny_fragment")
        }
        let options = conversation.request(payload: [1, 2, 3, 4], options: [UInt8](repeating: 1, count: 12))
        try datapath.expectDropped(
            options.fragments(of: 24, identification: 24)[0], counting: "tiny_fragment")
        // Behind a good first fragment, one that overwrites its header.
        let packet = FragmentedPacket(conversation, of: 24)
        try datapath.expectForwarded(packet, 0)
        for offset in [8, 16] {
            let forged = FragmentedPacket(conversation, of: 8).fragments[offset / 8]
            try datapath.expectDropped(forged, counting: "tiny_fragment")
        }
        try datapath.expectForwarded(packet, 1)
    }

    @Test(arguments: Family.allCases)
    func `headers behind the end of a fragment are malformed`(family: Family) throws {
        let datapath = try TestDatapath()
        for transport in Transport.allCases {
            let conversation = Conversation(family, transport)
            try datapath.open(conversation)
            for length in [1, 7] {
                let fragment = FragmentedPacket(conversation).fragments[0].with {
                    $0.payload = Array($0.payload.prefix(length))
                }
                try datapath.expectPassed(fragment, counting: "malformed")
            }
        }
    }

    @Test(arguments: Family.allCases)
    func `a fragment beyond the longest datagram is malformed`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .udp)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation)
        try datapath.expectForwarded(packet, 0)
        let last = packet.fragments[2].with {
            $0.ipv4?.fragmentOffset = 0x1fff
            $0.ipv6?.extensionHeaders = [.fragment(offset: 0x1fff, more: false, identification: 99)]
        }
        try datapath.expectForwarded(
            last.with { $0.payload = [1, 2, 3, 4, 5, 6, 7] },
            as: conversation.forwarded(last).with { $0.payload = [1, 2, 3, 4, 5, 6, 7] })
        try datapath.expectPassed(last.with { $0.payload = [UInt8](repeating: 1, count: 8) }, counting: "malformed")
        try datapath.expectPassed(last.with { $0.payload = [] }, counting: "malformed")
    }

    // MARK: bounds

    @Test(arguments: FragmentWay.all)
    func `what waits is bounded`(way: FragmentWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let many = FragmentedPacket(
            conversation, from: way.side, payload: [UInt8](repeating: 5, count: 80 * 24), of: 24)
        for number in 1...64 { try datapath.expectKept(many, number) }
        try datapath.expectPassed(many.fragments[65], on: way.side, counting: "fragment_no_room")
        let long = FragmentedPacket(
            conversation, from: way.side, payload: [UInt8](repeating: 5, count: 6_000), of: 2_400, identification: 1)
        try datapath.expectPassed(long.fragments[1], on: way.side, counting: "fragment_no_room")
    }

    @Test(arguments: FragmentWay.all)
    func `orphans in any number leave other flows untouched`(way: FragmentWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: way.side, identification: 0xffff)
        try datapath.expectForwarded(packet, 0)
        let orphans = (0..<5_000).map { number in
            packet.fragments[1].with {
                $0.ipv4?.identification = UInt16(number)
                $0.ipv6?.extensionHeaders = [.fragment(offset: 6, more: true, identification: UInt32(number))]
            }.bytes
        }
        let results = try datapath.run(orphans, at: .tc, on: way.side)
        #expect(results.allSatisfy { $0.action == (way.side == .uplink ? UInt32.max : 2) })
        for number in [1, 2, 0] { try datapath.expectForwarded(packet, number) }
        try datapath.expectForwarded(conversation, conversation.request(payload: [1]))
        #expect(try datapath.states().count == 1)
        #expect(try datapath.maps.fragmentQueues.keys().count <= 1_024)
    }
}
