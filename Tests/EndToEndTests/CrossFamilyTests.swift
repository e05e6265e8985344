import FastNATTesting
import Testing

/// Clients of one family and containers of the other. The kernel's NAT has no such thing; docker-proxy is what does it.
@Suite("Across families", .enabled(if: isRoot, "needs root"))
struct CrossFamilyTests {
    @Test("TCP in bulk and datagrams reach a container of the other family", arguments: Variant.fastnat)
    func crosses(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let other: Topology.Family = variant.family == .v4 ? .v6 : .v4
        let any = variant.family == .v4 ? "0.0.0.0" : "[::]"
        let web = try scene.serve(.http, on: 80)
        let bulk = try scene.serve(.bulk, on: 5001)
        let echo = try scene.serve(.udpEcho, on: 7)
        for (port, transport) in [(web.port, "tcp"), (bulk.port, "tcp"), (echo.port, "udp")] {
            let target = scene.topology.container.endpoint(other, port)
            try scene.run("map", "add", "\(any):\(port)/\(transport)", "\(target)")
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
}
