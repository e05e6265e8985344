import FastNATTesting
import Testing

@testable import FastNAT

/// What is none of fastnat's goes up the stack as it came, even in the middle of an open flow.
@Suite struct ForeignPacketTests {
    /// A change to a packet of an open flow that makes it foreign.
    struct Change: Sendable, CustomTestStringConvertible {
        let testDescription: String
        var families = Family.allCases
        let apply: @Sendable (inout Packet) -> Void

        init(
            _ description: String, _ families: [Family] = Family.allCases,
            _ apply: @escaping @Sendable (inout Packet) -> Void
        ) {
            self.testDescription = description
            self.families = families
            self.apply = apply
        }
    }

    static let changes: [Change] = [
        Change("VLAN tag") { $0.ethernet?.vlan = 100 },
        Change("VLAN tag of priority alone") { $0.ethernet?.vlan = 0xe000 },
        Change("unknown Ethernet type") { $0.ethernet?.type = 0x88b5 },
        Change("802.3 length in place of a type") { $0.ethernet?.type = 60 },
        Change("MPLS") { $0.ethernet?.type = 0x8847 },
        Change("to another host's Ethernet address") { $0.ethernet?.destination = "02:00:00:00:01:02" },
        Change("to the Ethernet broadcast address") { $0.ethernet?.destination = .broadcast },
        Change("to an Ethernet multicast address") { $0.ethernet?.destination = "01:00:5e:00:00:01" },
        Change("hop-by-hop options", [.ipv6]) { $0.ipv6?.extensionHeaders = [.hopByHop()] },
        Change("destination options", [.ipv6]) { $0.ipv6?.extensionHeaders = [.destinationOptions()] },
        Change("routing header", [.ipv6]) {
            $0.ipv6?.extensionHeaders = [.init(number: 43, body: [0, 0, 0, 0, 0, 0, 0])]
        },
        Change("authentication header", [.ipv6]) {
            $0.ipv6?.extensionHeaders = [
                .init(number: 51, body: [4, 0, 0, 0, 0, 0, 1] + [UInt8](repeating: 0, count: 16))
            ]
        },
        Change("no next header", [.ipv6]) { $0.ipv6?.nextHeader = 59 },
        Change("no next header and no payload", [.ipv6]) {
            $0.ipv6?.nextHeader = 59
            let length = $0.bytes.count
            $0.ipv6?.payloadLengthDelta = 14 + 40 - length
        },
    ]

    @Test(arguments: Hook.allCases, changes)
    func `what only looks like an open flow's packet is left alone`(hook: Hook, change: Change) throws {
        for family in change.families {
            for transport in Transport.allCases {
                let datapath = try TestDatapath()
                let conversation = Conversation(family, transport)
                try datapath.open(conversation)
                try datapath.expectPassed(conversation.request().with(change.apply), at: hook)
                try datapath.expectForwarded(conversation, conversation.request(), at: hook)
            }
        }
    }

    @Test(arguments: Way.all, [0, 1, 2, 4, 33, 47, 50, 51, 58, 89, 103, 115, 136, 139, 253, 255] as [UInt8])
    func `other protocols are left alone`(way: Way, number: UInt8) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .udp)
        try datapath.open(conversation)
        let packet = conversation.request(payload: [1, 2, 3, 4]).with {
            $0.ipv4?.protocolNumber = number
            $0.ipv6?.nextHeader = number
        }
        try datapath.expectPassed(packet, at: way.hook)
    }

    @Test(arguments: Way.all)
    func `ICMP to the host is left alone`(way: Way) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .udp)
        try datapath.open(conversation)
        let family = way.family
        for packet in [
            Packet.echoRequest(from: family.client, to: family.host, identifier: 8080),
            Packet.echoReply(from: family.client, to: family.host, identifier: 8080),
            .icmpError(from: family.client, to: family.host, .portUnreachable, about: conversation.reply()),
        ] {
            let link = (conversation.clientMAC, conversation.uplinkMAC)
            try datapath.expectPassed(packet.with { $0.link = link }, at: way.hook)
        }
    }

    @Test(arguments: Hook.allCases)
    func `neighbour discovery and ARP are left alone`(hook: Hook) throws {
        let datapath = try TestDatapath()
        try datapath.expectPassed(
            .arpRequest(from: Family.ipv4.client, TestNetwork.clientMAC, target: Family.ipv4.host), at: hook)
        let solicitation = Packet.icmp(
            from: Family.ipv6.client, to: "ff02::1:ff00:1", type: 135,
            payload: Family.ipv6.host.bytes + [1, 1] + TestNetwork.clientMAC.bytes)
        try datapath.expectPassed(
            solicitation.with { $0.ethernet?.destination = "33:33:ff:00:00:01" }, at: hook)
    }

    @Test(arguments: TransportWay.all)
    func `multicast and broadcast destinations are left alone`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let group: [Packet.Address] =
            way.family == .ipv4 ? ["224.0.0.251", "255.255.255.255", "192.0.2.255"] : ["ff02::fb", "ff0e::1"]
        for destination in group {
            for mac in ["01:00:5e:00:00:fb", "33:33:00:00:00:fb", "ff:ff:ff:ff:ff:ff"] as [Packet.MAC] {
                let packet = Conversation(way).with { $0.published.address = destination }.request(.syn)
                try datapath.expectPassed(packet.with { $0.ethernet?.destination = mac }, at: way.hook)
            }
        }
        #expect(try datapath.states() == [])
    }

    @Test(arguments: Hook.allCases, Transport.allCases)
    func `IPv4 addresses in IPv6 headers match no IPv4 flow and no mapping`(hook: Hook, transport: Transport) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, transport)
        try datapath.open(conversation)
        let mapped = conversation.with {
            $0.client.address = "::ffff:192.0.2.100"
            $0.published.address = "::ffff:192.0.2.1"
        }
        for flags in [.ack, .syn] as [Packet.TCPFlags] { try datapath.expectPassed(mapped.request(flags), at: hook) }
        let half = mapped.with { $0.published.address = Family.ipv6.host }
        try datapath.expectPassed(half.request(.syn), at: hook)
    }
}
