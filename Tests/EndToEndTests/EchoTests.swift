import FastNATTesting
import Testing

/// ICMP echo of containers, with the real ping.
@Suite("Echo", .enabled(if: isRoot, "needs root"))
struct EchoTests {
    private static let bridges = Variant.of(Publisher.allCases, [.bridge])
    private static let fastnatBridges = Variant.of(Publisher.fastnat, [.bridge])

    @Test("A container's ping has the host's address outside, and is answered", arguments: Variant.all)
    func ping(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try scene.path.masquerade(variant.family)
        let capture = try Capture("eth0", in: scene.client, .both, filter: "icmp[0] = 8 or icmp6[0] = 128")
        for size in [0, 56, 1_400] { try scene.expectAnswered(size: size) }
        let host = scene.published(4_711)
        let requests = try capture.waitFor(count: 6).map { PacketView($0) }
        for request in requests { #expect(request.source == host && request.problems.isEmpty, "\(request)") }
        if variant.publisher.isFastnat {
            let flow = try #require(try scene.list("conntrack").first)
            #expect(flow["protocol"] as? String == (variant.family == .v4 ? "icmp" : "icmpv6"))
            let listed = try #require(try scene.list("masquerade").first)
            #expect(listed["flows"] as? Int == 1 && listed["packets"] as? Int == 12)
        }
        try scene.finish()
    }

    @Test("A ping of several fragments is answered", arguments: Variant.all)
    func fragments(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try scene.path.masquerade(variant.family)
        for size in [1_500, 3_000, 20_000] { try scene.expectAnswered(size: size) }
        try scene.finish()
    }

    @Test(
        "A ping without DF is cut where 1,400 bytes are the most",
        arguments: Variant.of(Publisher.allCases, [.bridge], [.v4]))
    func narrow(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.hasRouter = true }
        try scene.path.masquerade(variant.family)
        let client = scene.topology.client.address(variant.family)
        try scene.host.ip(["route add \(client)/32 via 192.0.2.254 mtu lock 1400"])
        try scene.expectAnswered(size: 1_450, "-M", "dont")
        try scene.finish()
    }

    @Test("Two containers ping with one identifier, and both are answered", arguments: bridges)
    func sharedIdentifier(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = 2 }
        try scene.path.masquerade(variant.family)
        for _ in 0..<2 {
            for container in scene.topology.containers { try scene.expectAnswered(from: container.namespace) }
        }
        if variant.publisher.isFastnat {
            let ports = try scene.list("conntrack").compactMap { ($0["reply"] as? [String: Any])?["destinationPort"] }
            #expect(Set(ports.compactMap { $0 as? Int }).count == 2)
        }
        try scene.finish()
    }

    @Test("The host pings with a container's identifier, and both are answered", arguments: Variant.all)
    func host(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try scene.path.masquerade(variant.family)
        for _ in 0..<2 {
            for namespace in [scene.topology.container.namespace, scene.host] {
                try scene.expectAnswered(from: namespace)
                try scene.expectAnswered(from: namespace, size: 3_000)
            }
        }
        // And whoever pings the host reaches it.
        let host = scene.published(0).address
        let answer = try scene.client.command(["ping", "-c", "2", "-i", "0.2", "-W", "5", "-e", "4711", "\(host)"])
        #expect(answer.output.contains("2 received"))
        try scene.finish()
    }

    @Test("A traceroute by ping sees each hop", arguments: Variant.all)
    func hops(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.hasRouter = true }
        try scene.path.masquerade(variant.family)
        let hops = variant.family == .v4 ? ["172.20.0.1", "192.0.2.254"] : ["fd00:20::1", "2001:db8:1::fe"]
        for _ in 0..<2 {
            for (number, hop) in hops.enumerated() {
                let result = try scene.ping(count: 1, "-t", "\(number + 1)")
                #expect(result.contains("From \(hop)") && result.contains("exceeded"), "\(result)")
            }
            try scene.expectAnswered()
        }
        try scene.finish()
    }

    @Test("When identifiers run out, the container is told, and who has one goes on", arguments: fastnatBridges)
    func exhaustion(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = 2 }
        let network = Topology.containerNetwork(variant.family)
        try scene.run("masquerade", "add", network, "--iface", "eth0", "--ports", "50000-50000")
        try scene.expectAnswered()
        let refusal = try scene.ping(count: 1, from: scene.topology.containers[1].namespace)
        #expect(
            refusal.contains(variant.family == .v4 ? "Packet filtered" : "Administratively prohibited"), "\(refusal)")
        #expect(try scene.packets(notForwardedFor: "no_free_port") == 1)
        try scene.expectAnswered()
        try scene.finish()
    }

    @Test("--icmp-timeout is what load says, and status tells")
    func timeout() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), loadOptions: ["--icmp-timeout", "75"])
        #expect((try scene.status()["timeouts"] as? [String: Any])?["icmp"] as? Int == 75)
        let result = try #require(scene.fastnat).run(
            ["load", "--iface", "eth0", "--icmp-timeout", "59"], check: false)
        #expect(result.status == 64 && result.errors.contains("60"), "\(result)")
        try scene.finish()
    }
}

extension Scene {
    /// What ping of the client says, with identifier 4711.
    fileprivate func ping(count: Int, from namespace: NetworkNamespace? = nil, _ options: String...) throws -> String {
        let arguments = ["ping", "-c", "\(count)", "-i", "0.2", "-W", "5", "-e", "4711"] + options
        return try (namespace ?? topology.container.namespace).command(
            arguments + ["\(topology.client.address(family))"], check: false
        ).output
    }

    /// Expects that two requests are answered.
    fileprivate func expectAnswered(
        from namespace: NetworkNamespace? = nil, size: Int = 56, _ options: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let arguments = ["ping", "-c", "2", "-i", "0.2", "-W", "5", "-e", "4711", "-s", "\(size)"] + options
        let result = try (namespace ?? topology.container.namespace).command(
            arguments + ["\(topology.client.address(family))"], check: false)
        #expect(result.output.contains("2 received"), "\(result)", sourceLocation: sourceLocation)
    }
}
