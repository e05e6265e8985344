import FastNATTesting
import Testing

@testable import FastNAT

/// Who may begin a flow.
@Suite struct AdmissionTests {
    @Test(arguments: Kind.all)
    func `only allowed networks may connect`(kind: Kind) throws {
        let isIPv4 = kind.family == .ipv4
        let allowed = isIPv4 ? ["198.51.100.128/25", "203.0.113.7/32"] : ["2001:db8:5::/48", "2001:db8:6::7/128"]
        let datapath = try TestDatapath([kind.family.mapping("8080/\(kind.transport)", to: "80", allow: allowed)])
        let inside: [Packet.Address] =
            isIPv4
            ? ["198.51.100.128", "198.51.100.255", "203.0.113.7"]
            : ["2001:db8:5::", "2001:db8:5:ffff:ffff:ffff:ffff:ffff", "2001:db8:6::7"]
        let outside: [Packet.Address] =
            isIPv4
            ? ["198.51.100.127", "198.51.101.0", "203.0.113.6", "203.0.113.8", "192.0.2.100"]
            : ["2001:db8:4:ffff:ffff:ffff:ffff:ffff", "2001:db8:6::", "2001:db8:6::8", "2001:db8:1::100"]
        for source in inside { try datapath.open(far(kind, from: source)) }
        for source in outside {
            try datapath.expectPassed(far(kind, from: source).request(.syn), counting: "not_allowed")
        }
        #expect(try datapath.states().count == inside.count)
    }

    @Test(arguments: Kind.all)
    func `an allow list holds for its own mapping`(kind: Kind) throws {
        let networks =
            kind.family == .ipv4 ? ["198.51.100.0/24", "203.0.113.0/24"] : ["2001:db8:5::/48", "2001:db8:6::/48"]
        let sources: [Packet.Address] =
            kind.family == .ipv4 ? ["198.51.100.9", "203.0.113.9"] : ["2001:db8:5::9", "2001:db8:6::9"]
        let datapath = try TestDatapath(
            [
                kind.family.mapping("8080/\(kind.transport)", to: "80", allow: [networks[0]]),
                kind.family.mapping("8081-8082/\(kind.transport)", to: "81", allow: [networks[1]]),
                kind.family.mapping("8083/\(kind.transport)", to: "83"),
            ])
        for (port, targetPort, allowed) in [(8080, 80, [0]), (8082, 81, [1]), (8083, 83, [0, 1])]
            as [(UInt16, UInt16, [Int])]
        {
            for (index, source) in sources.enumerated() {
                let conversation = far(kind, from: source).with {
                    $0.published.port = port
                    $0.target.port = targetPort
                    $0.client.port = port
                }
                if allowed.contains(index) {
                    try datapath.open(conversation)
                } else {
                    try datapath.expectPassed(conversation.request(.syn), counting: "not_allowed")
                }
            }
        }
    }

    @Test(arguments: Kind.all)
    func `a network of length zero allows everybody`(kind: Kind) throws {
        let all = kind.family == .ipv4 ? "0.0.0.0/0" : "::/0"
        let datapath = try TestDatapath([kind.family.mapping("8080/\(kind.transport)", to: "80", allow: [all])])
        try datapath.open(far(kind, from: kind.family.farClient))
    }

    @Test(arguments: Kind.all)
    func `packets on their way through the host are left alone`(kind: Kind) throws {
        let datapath = try TestDatapath()
        for destination in [kind.family.stranger, kind.family.target, kind.family.client] {
            let packet = Conversation(kind).with { $0.published.address = destination }.request(.syn)
            try datapath.expectPassed(packet, counting: "not_local")
            try datapath.expectPassed(packet, at: .xdp)
        }
        #expect(try datapath.states() == [])
    }

    @Test(arguments: Kind.all)
    func `an address that the host gets later is published at once`(kind: Kind) throws {
        let network = try TestNetwork()
        let datapath = try TestDatapath(network: network)
        let (address, length) = kind.family == .ipv4 ? ("203.0.113.9", 32) : ("2001:db8:aaaa::9", 128)
        let conversation = Conversation(kind).with { $0.published.address = kind.family.stranger }
        try datapath.expectPassed(conversation.request(.syn), counting: "not_local")
        try network.namespace.ip(["addr add \(address)/\(length) dev lo"])
        try network.awaitLocalRoute(conversation.published.address)
        try datapath.open(conversation)
    }

    static let unpublishable: [Packet.Address] = [
        "127.0.0.1", "127.1.2.3", "0.0.0.0", "224.0.0.251", "239.1.1.1", "255.255.255.255",
        "::1", "::", "ff02::1", "ff05::2",
    ]

    @Test(arguments: Transport.allCases, unpublishable)
    func `what is no host's address is not published on any address`(
        transport: Transport, destination: Packet.Address
    ) throws {
        let family: Family = destination.isIPv6 ? .ipv6 : .ipv4
        let packet = Conversation(family, transport).with { $0.published.address = destination }.request(.syn)
        for network in [TestNetwork.shared, TestNetwork.withoutDefaultRoutes] {
            let datapath = try TestDatapath(network: network.get())
            try datapath.expectPassed(packet, counting: "not_local")
            #expect(try datapath.states() == [])
        }
    }

    @Test(arguments: Kind.all)
    func `a port of the loopback address is not published to the network`(kind: Kind) throws {
        let loopback: Packet.Address = kind.family == .ipv4 ? "127.0.0.1" : "::1"
        let datapath = try TestDatapath([kind.family.mapping("8080/\(kind.transport)", to: "80", on: loopback)])
        let packet = Conversation(kind).with { $0.published.address = loopback }.request(.syn)
        try datapath.expectPassed(packet, counting: "not_local")
        #expect(try datapath.states() == [])
    }

    static let martians: [Packet.Address] = [
        "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "224.0.0.1", "239.255.255.255", "255.255.255.255",
        "::", "::1", "::192.0.2.1", "ff02::1", "ff0e::1",
    ]

    @Test(arguments: Transport.allCases, martians)
    func `sources that nobody may send from are dropped`(transport: Transport, source: Packet.Address) throws {
        let datapath = try TestDatapath()
        let family: Family = source.isIPv6 ? .ipv6 : .ipv4
        let conversation = Conversation(family, transport).with { $0.client.address = source }
        for hook in [Hook.xdp, .tc] {
            try datapath.expectDropped(conversation.request(.syn), at: hook, counting: "martian_source")
        }
        #expect(try datapath.states() == [])
    }

    @Test(arguments: Kind.all)
    func `a client that pretends to be this host is dropped`(kind: Kind) throws {
        let datapath = try TestDatapath()
        for source in [kind.family.host, kind.family.otherHost, kind.family.gateway] {
            let conversation = Conversation(kind).with { $0.client.address = source }
            for hook in [Hook.xdp, .tc] {
                try datapath.expectDropped(conversation.request(.syn), at: hook, counting: "martian_source")
            }
        }
        #expect(try datapath.states() == [])
        try datapath.open(Conversation(kind))
    }

    /// Rules of routing may give packets from an uplink no way but to containers.
    @Test(arguments: Kind.all)
    func `a client whose way back is of other interfaces alone is none of those`(kind: Kind) throws {
        let network = try TestNetwork()
        let datapath = try TestDatapath(network: network)
        let (version, containers) = (kind.family == .ipv4 ? "-4" : "-6", kind.family.containers)
        for arguments in [
            ["route", "add", containers, "dev", "ctr", "table", "100"],
            ["rule", "add", "iif", "uplink", "lookup", "100", "pref", "100"],
            ["rule", "add", "iif", "uplink", "unreachable", "pref", "101"],
        ] { try network.namespace.command(["ip", version] + arguments) }
        try datapath.open(Conversation(kind))
        let spoofed = Conversation(kind).with { $0.client.address = kind.family.otherHost }
        try datapath.expectDropped(spoofed.request(.syn), counting: "martian_source")
    }

    @Test(arguments: Kind.all)
    func `a client that there is no way back to is dropped`(kind: Kind) throws {
        let datapath = try TestDatapath(network: TestNetwork.withoutDefaultRoutes.get())
        try datapath.expectDropped(far(kind, from: kind.family.stranger).request(.syn), counting: "martian_source")
        try datapath.open(Conversation(kind))
    }

    @Test(
        arguments: Transport.allCases,
        ["169.254.0.1", "169.254.255.255", "fe80::1", "febf:ffff::1"] as [Packet.Address])
    func `link-local clients are left to the stack`(transport: Transport, source: Packet.Address) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(source.isIPv6 ? .ipv6 : .ipv4, transport).with { $0.client.address = source }
        for hook in Hook.allCases {
            try datapath.expectPassed(conversation.request(.syn), at: hook, counting: "link_local")
        }
        #expect(try datapath.states() == [])
    }

    @Test(
        arguments: Transport.allCases,
        [
            "169.253.255.255", "169.255.0.1", "fe7f::1", "1.0.0.1", "126.255.255.255", "128.0.0.1", "223.255.255.255",
            "240.0.0.1", "fec0::1", "fc00::1", "1::",
            "2000::1",
        ]
            as [Packet.Address])
    func `sources next to those are taken`(transport: Transport, source: Packet.Address) throws {
        let datapath = try TestDatapath()
        try datapath.open(far(Kind(family: source.isIPv6 ? .ipv6 : .ipv4, transport: transport), from: source))
    }

    @Test(
        arguments: Family.allCases,
        [
            .ack, [.syn, .ack], .rst, [.rst, .ack], [.syn, .rst], [.syn, .fin], [.syn, .fin, .psh], .fin, [.psh, .ack],
            [],
        ] as [Packet.TCPFlags])
    func `only a SYN begins a TCP flow`(family: Family, flags: Packet.TCPFlags) throws {
        let datapath = try TestDatapath()
        for hook in Hook.allCases {
            try datapath.expectPassed(Conversation(family, .tcp).request(flags, payload: [1]), at: hook)
            try datapath.expectPassed(Conversation(family, .tcp).reply(flags, payload: [1]), at: hook, on: .container)
        }
        #expect(try datapath.states() == [])
    }

    @Test(arguments: Family.allCases, [.syn, [.syn, .ece, .cwr], [.syn, .psh]] as [Packet.TCPFlags])
    func `a SYN with other flags begins one too`(family: Family, flags: Packet.TCPFlags) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(flags, payload: [1, 2, 3]))
        #expect(try datapath.states() == [.halfOpen])
    }

    /// A conversation with a client behind the gateway.
    private func far(_ kind: Kind, from source: Packet.Address) -> Conversation {
        Conversation(kind).with {
            $0.client.address = source
            $0.clientMAC = TestNetwork.gatewayMAC
        }
    }
}
