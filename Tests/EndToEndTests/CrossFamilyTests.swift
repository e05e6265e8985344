import FastNATTesting
import Testing

/// Clients of one family and containers of the other. The kernel's NAT has no such thing; docker-proxy is what does it.
@Suite("Across families", .enabled(if: isRoot, "needs root"))
struct CrossFamilyTests {
    @Test("TCP in bulk and datagrams reach a container of the other family", arguments: Variant.fastnat)
    func crosses(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let other: Topology.Family = variant.family == .v4 ? .v6 : .v4
        let web = try scene.serve(.http, on: 80)
        let bulk = try scene.serve(.bulk, on: 5001)
        let echo = try scene.serve(.udpEcho, on: 7)
        for (port, transport) in [(web.port, "tcp"), (bulk.port, "tcp"), (echo.port, "udp")] {
            try scene.map(port, to: port, transport)
        }
        // The container sees the host, as with docker-proxy.
        let gateway = other == .v4 ? "172.20.0.1" : "fd00:20::1"
        let answer = try Traffic.get(scene.published(web.port), from: scene.client, sourcePort: 45_000)
        #expect(answer == "\(gateway) 45000")
        for direction in Traffic.Direction.allCases {
            try Traffic.transfer(megabytes: 20, direction, with: scene.published(bulk.port), from: scene.client)
        }
        for size in [0, 1, 1_000, 1_400] {
            let payload = [UInt8](repeating: 0x75, count: size)
            #expect(try Traffic.exchangeUDP(payload, with: scene.published(echo.port), from: scene.client) == payload)
        }
        try scene.finish()
    }

    @Test("A client learns that nobody listens in a container of the other family", arguments: Variant.fastnat)
    func closedPort(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try scene.map(7_000, to: 7, "udp")
        for _ in 0..<2 {
            #expect(
                try Traffic.errorAboutUDP(to: scene.published(7_000), from: scene.client)
                    == .init(.portUnreachable, from: scene.published(7_000).address))
        }
        try scene.finish()
    }

    @Test("TCP across families does not stall where 1,400 bytes are the most", arguments: Variant.fastnat)
    func pathMTU(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.hasRouter = true }
        let server = try scene.serve(.bulk, on: 5001)
        try scene.map(server.port, to: server.port, "tcp")
        let client = scene.topology.client.address(variant.family)
        let bits = variant.family == .v4 ? 32 : 128
        let router = try #require(scene.topology.router)
        try router.ip(["route add \(client)/\(bits) dev eth1 mtu lock 1400"])
        let filter = variant.family == .v4 ? "icmp6[0] = 2" : "icmp[0] = 3 and icmp[1] = 4"
        let capture = try Capture("eth0", in: scene.topology.container.namespace, .received, filter: filter)
        for direction in Traffic.Direction.allCases {
            try Traffic.transfer(
                megabytes: 3, direction, with: scene.published(server.port), from: scene.client, timeout: .seconds(20))
        }
        // The router's error, in the container's family, with the room that there is.
        let mtu = variant.family == .v4 ? "0x0000058c" : "0x00000564"
        let error = try capture.waitFor("the router's error") { $0["icmp.rest"] == mtu }
        #expect(error.problems.isEmpty, "\(error)")
        try scene.finish()
    }
}

extension Scene {
    /// Publishes a port for a container's of the other family.
    fileprivate func map(_ port: UInt16, to target: UInt16, _ transport: String) throws {
        let any = family == .v4 ? "0.0.0.0" : "[::]"
        let endpoint = topology.container.endpoint(family == .v4 ? .v6 : .v4, target)
        try run("map", "add", "\(any):\(port)/\(transport)", "\(endpoint)")
    }
}
