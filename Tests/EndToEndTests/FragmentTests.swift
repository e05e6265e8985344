import FastNATTesting
import Testing

/// Datagrams in fragments, on the wire in any order. The kernel's own NAT, which reassembles them, shows what is to be expected.
@Suite("Fragments", .enabled(if: isRoot, "needs root"))
struct FragmentTests {
    @Test("Datagrams arrive whole, whatever the order of their fragments", arguments: Variant.all)
    func orders(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let ends = try FragmentEnds(scene)
        var expected: [String] = []
        for size in [3_000, 60_000] {
            for order in FragmentOrder.allCases {
                let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 / 3 + expected.count) }
                try ends.send(payload, order, from: .client)
                try ends.send(payload, order, from: .container)
                expected.append("\(size) \(try ends.hash(payload))")
                let clients = "\(scene.topology.client.address(variant.family)) \(FragmentEnds.clientPort) "
                let published = "\(scene.topology.hostAddress(variant.family)) \(FragmentEnds.publishedPort) "
                let arrived = try ends.target.awaitDatagrams(expected.count).last
                #expect(arrived.map(String.init) == clients + (expected.last ?? ""), "\(size) \(order)")
                let returned = try ends.client.awaitDatagrams(expected.count).last
                #expect(returned.map(String.init) == published + (expected.last ?? ""), "\(size) \(order)")
            }
        }
        try scene.finish()
    }

    @Test(
        "Datagrams of 60,000 bytes go there and back, from the kernel's own sockets",
        arguments: Variant.of(Publisher.allCases, [.bridge]))
    func sockets(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.udpEcho, on: 53)
        try scene.publish(5353, to: server.port, .udp)
        for size in [1_473, 3_000, 60_000, 65_000] {
            let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 / 3) }
            #expect(try Traffic.exchangeUDP(payload, with: scene.published(5353), from: scene.client) == payload)
        }
        try scene.finish()
    }

    @Test(
        "Over a link that is narrower than the container's, packets without DF arrive in fragments",
        arguments: Variant.of(Publisher.allCases, Topology.Layout.allCases, [.v4]), [true, false])
    func narrowLink(_ variant: Variant, offloads: Bool) throws {
        let scene = try Scene(variant) { $0.containerOffloads = offloads }
        try scene.host.ip(["link set eth0 mtu 1400"])
        try scene.client.ip(["link set eth0 mtu 1400"])
        let server = try scene.serve(.udpBytes, on: 53)
        try scene.publish(5353, to: server.port, .udp)
        // In one packet from the container up to 1,472; in several above.
        for size in [1_372, 1_373, 1_450, 1_471, 1_472, 1_473, 3_000, 60_000] {
            let answer = try Traffic.exchangeUDP(
                Array("\(size)".utf8), with: scene.published(5353), from: scene.client)
            #expect(answer == (0..<size).map { UInt8(truncatingIfNeeded: $0 * 7 / 5) }, "\(size)")
        }
        try scene.finish()
    }

    @Test(
        "A hundred thousand orphan fragments a second leave others untouched",
        arguments: Variant.of([.fastnatTC], [.direct]))
    func orphans(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.udpEcho, on: 53)
        try scene.publish(5353, to: server.port, .udp)
        let payload = (0..<4_000).map { UInt8(truncatingIfNeeded: $0) }
        let ends = try FragmentEnds(scene)
        let flood = try Flood(ends.orphans(10_000), framesPerSecond: 100_000, into: "eth0", of: scene.client)
        var arrived = 0
        for _ in 0..<40 {
            let answer = try? Traffic.exchangeUDP(payload, with: scene.published(5353), from: scene.client)
            if answer == payload { arrived += 1 }
        }
        let sent = try flood.stop()
        #expect(arrived == 40)
        #expect(sent > 100_000)
        // Interrupts and tcpdump aside, each of them has been seen and kept for a while.
        let kept = try scene.packets(notForwardedFor: "fragment") + scene.packets(notForwardedFor: "fragment_no_room")
        #expect(kept > sent / 2)
        try scene.finish()
    }
}

/// In which order the fragments of a datagram are put on the wire.
enum FragmentOrder: String, CaseIterable {
    case inOrder, reversed, lastFirst, firstLast, twice

    func arrange(_ fragments: [Packet]) -> [Packet] {
        switch self {
        case .inOrder: fragments
        case .reversed: fragments.reversed()
        case .lastFirst: Array(fragments.suffix(1) + fragments.dropLast())
        case .firstLast: Array(fragments.dropFirst() + fragments.prefix(1))
        case .twice: fragments.flatMap { [$0, $0] }
        }
    }
}

/// A client and a container, each with a socket that says what arrives, and both with frames made by hand.
private final class FragmentEnds {
    enum End { case client, container }

    static let clientPort: UInt16 = 45_000
    static let publishedPort: UInt16 = 7_000

    let client: TrafficServer
    let target: TrafficServer
    private let scene: Scene
    private let links: (client: (Packet.MAC, Packet.MAC), container: (Packet.MAC, Packet.MAC))
    private var identification: UInt32 = 0

    init(_ scene: Scene) throws {
        self.scene = scene
        let (topology, container) = (scene.topology, scene.topology.container.namespace)
        client = try TrafficServer(.udpPrint, in: scene.client, port: Self.clientPort)
        target = try scene.serve(.udpPrint, on: 7)
        try scene.publish(Self.publishedPort, to: 7, .udp)
        links = (
            (try scene.client.linkAddress(of: "eth0"), try scene.host.linkAddress(of: "eth0")),
            (
                try container.linkAddress(of: "eth0"),
                try scene.host.linkAddress(of: topology.containerInterface)
            )
        )
    }

    /// Sends a datagram in fragments of 1,480 bytes or, over IPv6, 1,448.
    func send(_ payload: [UInt8], _ order: FragmentOrder, from end: End) throws {
        identification += 1
        let frames = order.arrange(datagram(payload, from: end).fragments(of: 1_448, identification: identification))
        let namespace = end == .client ? scene.client : scene.topology.container.namespace
        try Traffic.inject(frames.map(\.bytes), into: "eth0", of: namespace)
    }

    /// Fragments from the middle of datagrams whose other fragments never come.
    func orphans(_ count: Int) throws -> [[UInt8]] {
        let whole = datagram([UInt8](repeating: 1, count: 100), from: .client)
        return (0..<count).map { whole.fragments(of: 40, identification: UInt32($0))[1].bytes }
    }

    func hash(_ payload: [UInt8]) throws -> String {
        let result = try scene.client.command(["sha256sum"], input: payload)
        return String(result.output.prefix(64))
    }

    private func datagram(_ payload: [UInt8], from end: End) -> Packet {
        let seen = scene.topology.client.endpoint(scene.family, Self.clientPort)
        return switch end {
        case .client:
            .udp(from: seen, to: scene.published(Self.publishedPort), payload: payload).with { $0.link = links.client }
        case .container:
            .udp(from: scene.target(7), to: seen, payload: payload).with { $0.link = links.container }
        }
    }
}
