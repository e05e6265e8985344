import FastNATTesting
import Testing

@Suite("ICMP errors", .enabled(if: isRoot, "needs root"))
struct ErrorTests {
    @Test("A client learns that nobody listens in the container", arguments: Variant.all)
    func closedPort(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try scene.publish(7000, to: 7, .udp)
        for _ in 0..<2 {
            #expect(
                try Traffic.errorAboutUDP(to: scene.published(7000), from: scene.client)
                    == .init(.portUnreachable, from: scene.published(7000).address))
        }
        try scene.finish()
    }

    @Test("Each router on the way to a published port, and the host, is seen by tracepath", arguments: Variant.all)
    func hops(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.hasRouter = true }
        try scene.publish(7000, to: 7, .udp)
        let router: Packet.Address = variant.family == .v4 ? "203.0.113.1" : "2001:db8:3::1"
        let expected: [ICMPError] = [
            .init(.timeExceeded, from: router), .init(.timeExceeded, from: scene.published(7000).address),
            .init(.portUnreachable, from: scene.published(7000).address),
        ]
        // Once for a first packet, once for a flow that is known.
        for _ in 0..<2 {
            for (hops, error) in expected.enumerated() {
                #expect(
                    try Traffic.errorAboutUDP(
                        to: scene.published(7000), from: scene.client, sourcePort: 40_000, hops: hops + 1)
                        == error)
            }
        }
        try scene.finish()
    }

    /// Where there is less room than client and container know of.
    enum Narrow: String, CaseIterable {
        case client, uplink, container
    }

    /// A router heeds the MTU of a route when that is locked (ip-route(8)). Offloads on: what is too big is 64 kB with a checksum that nobody has completed yet.
    @Test("TCP does not stall where 1,400 bytes are the most", arguments: Variant.all, Narrow.allCases)
    func pathMTU(_ variant: Variant, _ place: Narrow) throws {
        let scene = try Scene(variant) { $0.hasRouter = true }
        let server = try scene.serve(.bulk, on: 5001)
        try scene.publish(5001, to: server.port)
        let bits = variant.family == .v4 ? 32 : 128
        let client = scene.topology.client.address(variant.family)
        let container = scene.topology.container.address(variant.family)
        let gateway: Packet.Address = variant.family == .v4 ? "192.0.2.254" : "2001:db8:1::fe"
        switch place {
        case .client:
            try #require(scene.topology.router).ip(["route add \(client)/\(bits) dev eth1 mtu lock 1400"])
        case .uplink: try scene.host.ip(["route add \(client)/\(bits) via \(gateway) mtu lock 1400"])
        case .container:
            let interface = scene.topology.containerInterface
            try scene.host.ip(["route add \(container)/\(bits) dev \(interface) mtu lock 1400"])
        }
        for direction in Traffic.Direction.allCases {
            try Traffic.transfer(
                megabytes: 3, direction, with: scene.published(5001), from: scene.client, timeout: .seconds(20))
        }
        if variant.publisher.isFastnat {
            #expect((try scene.packets(notForwardedFor: "too_big") > 0) == (place != .client))
        }
        try scene.finish()
    }
}
