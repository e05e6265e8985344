import FastNATTesting
import Foundation
import Testing

/// Behind a bridge, packets go straight to the container's port.
@Suite("Bridge ports", .enabled(if: isRoot, "needs root"))
struct BridgePortTests {
    /// Answers by UDP that go on, and a count of the frames that cross the bridge on their way.
    private struct Watch {
        let scene: Scene
        let server: TrafficServer
        let pulse: Pulse

        init?(_ variant: Variant, bridge: String) throws {
            scene = try Scene(variant)
            guard (try? scene.host.ip([bridge])) != nil else { return nil }
            (server, pulse) = try Self.start(scene)
        }

        init(_ variant: Variant) throws {
            scene = try Scene(variant)
            (server, pulse) = try Self.start(scene)
        }

        private static func start(_ scene: Scene) throws -> (TrafficServer, Pulse) {
            let server = try scene.serve(.udpEcho, on: 7)
            try scene.publish(7000, to: 7, .udp)
            let pulse = try Pulse(.udp, to: scene.published(7000), from: scene.client)
            try pulse.awaitAnswers(10)
            return (server, pulse)
        }

        /// Frames that the bridge itself has got (`rx`) or been given (`tx`) so far.
        func frames(_ side: String) throws -> Int {
            try scene.packets(side, on: "br0")
        }

        /// Whether the bridge sees next to none of the packets, either way.
        func isPassed() throws -> Bool {
            let (received, sent) = (try frames("rx"), try frames("tx"))
            try pulse.awaitAnswers(100)
            let isAnswered = !pulse.answers.suffix(100).contains { $0 == "lost" || $0 == "refused" }
            return try isAnswered && frames("rx") - received < 50 && frames("tx") - sent < 50
        }

        func finish() throws { try scene.finish() }
    }

    private static let variants = Variant.of(Publisher.fastnat, [.bridge])

    @Test("Requests and replies go past the bridge", arguments: variants)
    func passed(_ variant: Variant) throws {
        let watch = try Watch(variant)
        try eventually("the bridge is passed", timeout: .seconds(10)) { try watch.isPassed() }
        let programs = try #require(try watch.scene.status()["programs"] as? [[String: Any]])
        #expect(programs.contains { $0["interface"] as? String == "veth0" && $0["role"] as? String == "port" })
        try watch.finish()
    }

    @Test("All packets of short connections go past the bridge", arguments: variants)
    func shortConnections(_ variant: Variant) throws {
        let watch = try Watch(variant)
        let server = try watch.scene.serve(.http, on: 80)
        try watch.scene.publish(8080, to: server.port)
        try eventually("the bridge is passed", timeout: .seconds(10)) { try watch.isPassed() }
        let (connections, began) = (100, ContinuousClock.now)
        let received = try watch.frames("rx")
        for _ in 0..<connections {
            #expect(Traffic.canGet(watch.scene.published(8080), from: watch.scene.client))
        }
        // The server's CPUs ask for the way of replies about once a second, each by a packet that crosses the bridge.
        let seconds = Int((ContinuousClock.now - began) / .seconds(1)) + 1
        #expect(try watch.frames("rx") - received < max(10 * seconds, connections / 2))
        try watch.finish()
    }

    @Test("A bridge that filters VLANs, and an isolated port, are not passed", arguments: variants)
    func fallback(_ variant: Variant) throws {
        // Not every kernel's bridges filter VLANs: then they have nothing to switch on.
        for line in ["link set br0 type bridge vlan_filtering 1", "link set veth0 type bridge_slave isolated on"] {
            guard let watch = try Watch(variant, bridge: line) else { continue }
            let sent = try watch.frames("tx")
            try watch.pulse.awaitAnswers(100)
            // Where the bridge is passed it is next to none; and some answers of before are only read now.
            #expect(try watch.frames("tx") - sent >= 50, "\(line)")
            let programs = try #require(try watch.scene.status()["programs"] as? [[String: Any]])
            #expect(!programs.contains { $0["role"] as? String == "port" })
            try watch.finish()
        }
    }

    @Test("A container made anew with its address, on another port, is reached again", arguments: variants)
    func newPort(_ variant: Variant) throws {
        let watch = try Watch(variant)
        try eventually("the bridge is passed", timeout: .seconds(10)) { try watch.isPassed() }
        let container = watch.scene.topology.container.namespace
        let mac = try container.linkAddress(of: "eth0")
        try watch.scene.host.ip(["link del veth0"])
        try connect(watch.scene, "veth7", "\(mac)")
        try watch.pulse.awaitAnswer("an answer by the new port") { $0 != "lost" && $0 != "refused" }
        try watch.pulse.awaitAnswers(10)
        // From the next command on the new port is known, and nothing is left of the old one.
        try watch.scene.publish(7001, to: 7, .udp)
        try eventually("the bridge is passed again", timeout: .seconds(10)) { try watch.isPassed() }
        let programs = try #require(try watch.scene.status()["programs"] as? [[String: Any]])
        #expect(programs.filter { $0["role"] as? String == "port" }.map { $0["interface"] as? String } == ["veth7"])
        try watch.finish()
    }

    @Test(
        "A container whose address moves to another port, while the old one stays, is reached again",
        arguments: variants)
    func movedPort(_ variant: Variant) throws {
        let watch = try Watch(variant)
        try eventually("the bridge is passed", timeout: .seconds(10)) { try watch.isPassed() }
        let container = watch.scene.topology.container.namespace
        let mac = try container.linkAddress(of: "eth0")
        try container.ip(["link set eth0 name old", "link set old address 02:42:00:00:77:77"])
        try container.ip(["address flush dev old"])
        try connect(watch.scene, "veth7", "\(mac)")
        try watch.pulse.awaitAnswer("an answer by the other port") { $0 != "lost" && $0 != "refused" }
        try watch.pulse.awaitAnswers(10)
        try watch.finish()
    }

    @Test("Containers on one bridge talk to each other as before", arguments: variants)
    func neighbours(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = 2 }
        let server = try scene.serve(.http, on: 80)
        try scene.publish(8080, to: server.port)
        let other = scene.topology.containers[1]
        let direct = scene.topology.container.endpoint(variant.family, 80)
        #expect(try Traffic.get(direct, from: other.namespace).hasPrefix("\(other.address(variant.family)) "))
        #expect(Traffic.canGet(scene.published(8080), from: other.namespace))
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        try scene.finish()
    }

    /// A link for the container by another port of the bridge, as a container engine makes it.
    private func connect(_ scene: Scene, _ port: String, _ mac: String) throws {
        let container = scene.topology.container.namespace
        try scene.host.ip(["link add \(port) type veth peer name eth0 address \(mac) netns \(container.name)"])
        try scene.host.ip(["link set \(port) master br0", "link set \(port) up"])
        try container.ip([
            "link set eth0 up", "address add 172.20.0.2/24 dev eth0", "address add fd00:20::2/64 dev eth0 nodad",
            "route replace 0.0.0.0/0 via 172.20.0.1", "route replace ::/0 via fd00:20::1",
        ])
        try container.command(["ethtool", "-K", "eth0", "gro", "on"])
        // A container engine announces the address; its first packet would, too.
        try Traffic.ping(scene.family == .v4 ? "172.20.0.1" : "fd00:20::1", from: container)
    }
}
