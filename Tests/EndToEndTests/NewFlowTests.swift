import FastNATTesting
import Testing

/// New flows that never become socket buffers of the host.
@Suite("New flows at XDP", .enabled(if: isRoot, "needs root"))
struct NewFlowTests {
    private static let ports: Range<UInt16> = 40_000..<40_100

    @Test(
        "Datagrams of many new flows reach the container from XDP, and are answered",
        arguments: Variant.of([.fastnatXDP]))
    func datagrams(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.udpEcho, on: 7)
        try scene.publish(7000, to: server.port, .udp)
        try Pulse(.udp, to: scene.published(7000), from: scene.client).awaitAnswers(3)
        let before = try scene.redirectedAtXDP()
        let client = scene.topology.client.endpoint(variant.family, 0).address
        try Traffic.inject(
            Self.ports.map { port in
                try scene.datagram(from: Packet.Endpoint(client, port: port), to: scene.published(7000)).bytes
            }, into: "eth0", of: scene.client)
        try eventually("all have an answer") {
            let answered = try scene.list("conntrack").filter { $0["state"] as? String == "replied" }
            return Set(answered.compactMap { ($0["original"] as? [String: Any])?["sourcePort"] as? Int })
                .isSuperset(of: Self.ports.map(Int.init))
        }
        // The first of each CPU has TC find out where they go.
        #expect(try scene.redirectedAtXDP() - before > Self.ports.count / 2)
        try scene.finish()
    }
}

extension Scene {
    fileprivate func datagram(from source: Packet.Endpoint, to destination: Packet.Endpoint) throws -> Packet {
        let link = (try client.linkAddress(of: "eth0"), try host.linkAddress(of: "eth0"))
        return Packet.udp(from: source, to: destination, payload: [1, 2, 3]).with { $0.link = link }
    }

    /// Frames that the uplink's driver has redirected so far.
    fileprivate func redirectedAtXDP() throws -> Int {
        try host.command(["ethtool", "--statistics", "eth0"]).output.split(separator: "\n")
            .filter { $0.contains("xdp_redirect:") }
            .compactMap { $0.split(separator: ":").last.flatMap { Int($0.trimmingPrefix(" ")) } }.reduce(0, +)
    }
}
