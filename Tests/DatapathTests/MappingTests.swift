import FastNATTesting
import Testing

@testable import FastNAT

/// Which mapping a packet belongs to. At TC a packet begins the flow, and XDP follows it.
@Suite struct MappingTests {
    /// A mapping, a port, and where it leads, or nil where it must not match.
    struct Lookup: Sendable, CustomTestStringConvertible {
        let ports: String
        let targetPorts: String
        let port: UInt16
        let targetPort: UInt16?

        init(_ ports: String, _ targetPorts: String, _ port: UInt16, _ targetPort: UInt16?) {
            (self.ports, self.targetPorts, self.port, self.targetPort) = (ports, targetPorts, port, targetPort)
        }

        var testDescription: String { "\(ports) to \(targetPorts), port \(port)" }
    }

    static let lookups = [
        Lookup("8080", "80", 8080, 80), Lookup("8080", "80", 8079, nil), Lookup("8080", "80", 8081, nil),
        Lookup("1", "65535", 1, 65535), Lookup("65535", "1", 65535, 1), Lookup("65535", "1", 65534, nil),
        // A range: its first port, the middle, the last one, one before, one after.
        Lookup("8000-8099", "9000-9099", 8000, 9000), Lookup("8000-8099", "9000-9099", 8050, 9050),
        Lookup("8000-8099", "9000-9099", 8099, 9099), Lookup("8000-8099", "9000-9099", 7999, nil),
        Lookup("8000-8099", "9000-9099", 8100, nil),
        // Many ports to one.
        Lookup("8000-8099", "443", 8000, 443), Lookup("8000-8099", "443", 8042, 443),
        Lookup("8000-8099", "443", 8099, 443), Lookup("8000-8099", "443", 8100, nil),
        // The words (64 ports) and groups of words (4,096 ports) of the bitmap of range starts.
        Lookup("63-64", "1063-1064", 63, 1063), Lookup("63-64", "1063-1064", 64, 1064),
        Lookup("63-64", "1063-1064", 62, nil),
        Lookup("63-64", "1063-1064", 65, nil), Lookup("64-65", "1-2", 64, 1), Lookup("64-65", "1-2", 63, nil),
        Lookup("4095-4096", "1-2", 4095, 1), Lookup("4095-4096", "1-2", 4096, 2), Lookup("4095-4096", "1-2", 4094, nil),
        Lookup("4095-4096", "1-2", 4097, nil), Lookup("4096-4097", "1-2", 4096, 1),
        Lookup("4096-4097", "1-2", 4095, nil),
        Lookup("1-65535", "1-65535", 1, 1), Lookup("1-65535", "1-65535", 65535, 65535),
        Lookup("1-65535", "1-65535", 32768, 32768), Lookup("1-65535", "7", 65535, 7),
        Lookup("2-65535", "2-65535", 1, nil), Lookup("1-65534", "1-65534", 65535, nil),
        Lookup("65534-65535", "1-2", 65535, 2), Lookup("65534-65535", "1-2", 65533, nil),
        Lookup("1-2", "65534-65535", 2, 65535), Lookup("100-60000", "1100-61000", 59999, 60999),
    ]

    @Test(arguments: Kind.all, lookups)
    func `a port leads where its mapping says`(kind: Kind, lookup: Lookup) throws {
        let mapping = kind.family.mapping("\(lookup.ports)/\(kind.transport)", to: lookup.targetPorts)
        let datapath = try TestDatapath([mapping])
        let conversation = Conversation(kind).with {
            $0.published.port = lookup.port
            $0.target.port = lookup.targetPort ?? 0
        }
        if lookup.targetPort == nil {
            try datapath.expectPassed(conversation.request(.syn))
        } else {
            try datapath.open(conversation)
            try datapath.expectForwarded(conversation, conversation.request(), at: .xdp)
            try datapath.expectReturned(conversation, conversation.reply(), at: .xdp)
        }
    }

    @Test(arguments: Kind.all)
    func `ranges side by side share no port`(kind: Kind) throws {
        let datapath = try TestDatapath([
            kind.family.mapping("8000-8009/\(kind.transport)", to: "1000-1009"),
            kind.family.mapping("8010-8019/\(kind.transport)", to: "2000-2009"),
            kind.family.mapping("8020/\(kind.transport)", to: "3000"),
            kind.family.mapping("8021-8022/\(kind.transport)", to: "4000"),
        ])
        for (port, targetPort) in [(8009, 1009), (8010, 2000), (8019, 2009), (8020, 3000), (8021, 4000)]
            as [(UInt16, UInt16)]
        {
            try datapath.open(
                Conversation(kind).with {
                    $0.published.port = port
                    $0.target.port = targetPort
                    $0.client.port = 10_000 + port
                })
        }
        let outside = Conversation(kind).with { $0.published.port = 8023 }
        try datapath.expectPassed(outside.request(.syn))
    }

    @Test(arguments: Kind.all)
    func `a mapping of a local address beats one of any address`(kind: Kind) throws {
        let family = kind.family
        let datapath = try TestDatapath([
            family.mapping("8080/\(kind.transport)", to: "80"),
            family.mapping("8080/\(kind.transport)", to: "81", on: family.otherHost),
            family.mapping("9000-9009/\(kind.transport)", to: "90"),
            family.mapping("9005-9006/\(kind.transport)", to: "91", on: family.otherHost),
        ])
        for (host, port, targetPort) in [
            (family.host, 8080, 80), (family.otherHost, 8080, 81), (family.host, 9005, 90),
            (family.otherHost, 9005, 91),
            (family.otherHost, 9004, 90), (family.otherHost, 9007, 90),
        ] as [(Packet.Address, UInt16, UInt16)] {
            try datapath.open(
                Conversation(kind).with {
                    $0.published = Packet.Endpoint(host, port: port)
                    $0.target.port = targetPort
                    $0.client.port = port &+ targetPort
                })
        }
    }

    @Test(arguments: Kind.all)
    func `a mapping of a local address is for that address alone`(kind: Kind) throws {
        let family = kind.family
        let datapath = try TestDatapath([
            family.mapping("8080/\(kind.transport)", to: "80", on: family.otherHost),
            family.mapping("9000-9001/\(kind.transport)", to: "80", on: family.otherHost),
        ])
        for port in [8080, 9000, 9001] as [UInt16] {
            try datapath.expectPassed(Conversation(kind).with { $0.published.port = port }.request(.syn))
        }
    }

    @Test(arguments: Kind.all)
    func `TCP, UDP and the two families are published apart`(kind: Kind) throws {
        let others = Kind.all.filter { $0.family != kind.family || $0.transport != kind.transport }
        let datapath = try TestDatapath(
            others.map { $0.family.mapping("8080/\($0.transport)", to: "80") }
                + others.map { $0.family.mapping("8000-8070/\($0.transport)", to: "80") })
        try datapath.expectPassed(Conversation(kind).request(.syn))
        try datapath.expectPassed(Conversation(kind).with { $0.published.port = 8001 }.request(.syn))
        for other in others { try datapath.open(Conversation(other)) }
    }

    @Test(arguments: Kind.all)
    func `without mappings everything passes`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.expectPassed(Conversation(kind).request(.syn))
        try datapath.expectPassed(Conversation(kind).reply(.ack), on: .container)
    }

    @Test(arguments: Kind.all)
    func `the container side begins no flow to what is neither published nor masqueraded`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind).with {
            $0.uplinkMAC = "02:00:00:00:02:01"
            $0.published.port = 8079
        }
        try datapath.expectPassed(conversation.request(.syn), on: .container)
        #expect(try datapath.states() == [])
    }
}
