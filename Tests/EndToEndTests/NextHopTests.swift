import FastNATTesting
import Testing

@Suite("Next hops", .enabled(if: isRoot, "needs root"))
struct NextHopTests {
    /// One pulse over TCP and one over UDP through published ports.
    private struct Pulses {
        let servers: [TrafficServer]
        let pulses: [Pulse]

        init(_ scene: Scene) throws {
            servers = try [scene.serve(.tcpEcho, on: 7), scene.serve(.udpEcho, on: 7)]
            for transport in TransportProtocol.allCases { try scene.publish(7000, to: 7, transport) }
            pulses = try TransportProtocol.allCases.map {
                try Pulse($0, to: scene.published(7000), from: scene.client)
            }
            for pulse in pulses { try pulse.awaitAnswers(10) }
        }

        /// Both go on, soon; or that over UDP alone.
        func expectToHeal(_ what: String, isConnectionLost: Bool = false) throws {
            for pulse in isConnectionLost ? Array(pulses.dropFirst()) : pulses {
                try pulse.awaitAnswer("an answer after \(what)") { $0 != "lost" && $0 != "refused" }
                try pulse.awaitAnswers(10)
            }
        }
    }

    @Test("Traffic goes on when the container changes its Ethernet address", arguments: Variant.all)
    func containerAddress(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let pulses = try Pulses(scene)
        let container = scene.topology.container.namespace
        try container.ip(["link set eth0 address 02:42:00:00:00:99"])
        // As an interface that comes up announces itself. Without, the kernel finds out in its own time.
        let gateway: Packet.Address = variant.family == .v4 ? "172.20.0.1" : "fd00:20::1"
        try Traffic.ping(gateway, from: container)
        try pulses.expectToHeal("a new address")
        try scene.finish()
    }

    @Test("Replies follow a route that changes", arguments: Variant.of(Publisher.allCases, [.bridge]))
    func route(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.hasRouter = true }
        let router = try #require(scene.topology.router)
        try router.connect("detour", to: scene.host, "detour")
        let addresses = ["203.0.114.%/24", "2001:db8:4::%/64"]
        for (namespace, number) in [(scene.host, "1"), (router, "2")] {
            try namespace.ip(
                addresses.map {
                    "address add \($0.replacing("%", with: number)) dev detour" + ($0.contains("::") ? " nodad" : "")
                })
        }
        let pulses = try Pulses(scene)
        let capture = try Capture("detour", in: router, .received, filter: "tcp or udp")
        try scene.host.ip([
            "route replace 0.0.0.0/0 via 203.0.114.2", "route replace ::/0 via 2001:db8:4::2",
        ])
        _ = try capture.waitFor("TCP by the detour", timeout: .seconds(5)) { $0["tcp.sport"] == "7000" }
        _ = try capture.waitFor("UDP by the detour", timeout: .seconds(5)) { $0["udp.sport"] == "7000" }
        try pulses.expectToHeal("another route")
        try scene.finish()
    }

    @Test("Requests follow a route that changes", arguments: Variant.of(Publisher.fastnat, [.direct]))
    func routeToContainer(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let container = scene.topology.container.namespace
        try scene.host.connect("detour", to: container, "detour")
        for (namespace, number) in [(scene.host, "1"), (container, "2")] {
            try namespace.ip([
                "address add 10.77.0.\(number)/24 dev detour", "address add fd00:77::\(number)/64 dev detour nodad",
            ])
        }
        try container.command(["ethtool", "-K", "detour", "gro", "on"])
        let pulses = try Pulses(scene)
        let capture = try Capture("detour", in: container, .received, filter: "tcp or udp")
        try scene.host.ip(["route add 172.20.0.2/32 via 10.77.0.2", "route add fd00:20::2/128 via fd00:77::2"])
        _ = try capture.waitFor("TCP by the detour", timeout: .seconds(5)) { $0["tcp.dport"] == "7" }
        _ = try capture.waitFor("UDP by the detour", timeout: .seconds(5)) { $0["udp.dport"] == "7" }
        try pulses.expectToHeal("another route")
        try scene.finish()
    }

    @Test("Traffic goes on when the container gets a new interface with the same address", arguments: Variant.all)
    func newInterface(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let pulses = try Pulses(scene)
        let container = scene.topology.container.namespace
        try scene.host.ip(["link del veth0"])
        let isBridge = variant.layout == .bridge
        try scene.host.connect("veth0", to: container, "eth0", bridge: isBridge ? "br0" : nil)
        try container.ip([
            "address add 172.20.0.2/24 dev eth0", "address add fd00:20::2/64 dev eth0 nodad",
            "route add 0.0.0.0/0 via 172.20.0.1", "route add ::/0 via fd00:20::1",
        ])
        try container.command(["ethtool", "-K", "eth0", "gro", "on"])
        if !isBridge {
            try scene.host.ip(["address add 172.20.0.1/24 dev veth0", "address add fd00:20::1/64 dev veth0 nodad"])
            // Another interface towards the target: fastnat looks for it when it is loaded again.
            if let fastnat = scene.fastnat { try fastnat.start() }
        }
        // Until then the container's replies go up the stack as they are, and the client resets such a connection.
        try pulses.expectToHeal("a new interface", isConnectionLost: scene.fastnat != nil && !isBridge)
        try Pulse(.tcp, to: scene.published(7000), from: scene.client).awaitAnswers(10)
        try scene.finish()
    }

    @Test("A load goes on without a target that cannot be reached now, and names it", arguments: Publisher.fastnat)
    func unreachable(_ publisher: Publisher) throws {
        let scene = try Scene(publisher, Topology.Options(.direct))
        let fastnat = try #require(scene.fastnat)
        let server = try scene.serve(.http, on: 80)
        try scene.publish(8080, to: server.port)
        let other = try NetworkNamespace("other")
        try scene.host.connect("veth9", to: other, "eth0")
        try scene.host.ip(["address add 172.29.0.1/24 dev veth9"])
        try scene.run("map", "add", "9000-9001", "172.29.0.2:80-81")
        let before = try scene.list("map").count

        try scene.host.ip(["link del veth9"])
        let result = try fastnat.run(fastnat.loadArguments)
        #expect(
            result.errors == """
                fastnat: loaded, but the target 172.29.0.2 cannot be reached: there is no route to it; is its network up?

                """)
        #expect(result.outputBytes.isEmpty)
        #expect(try scene.list("map").count == before)
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        let interfaces = try #require(try scene.status()["programs"] as? [[String: Any]]).map {
            $0["interface"] as? String
        }
        #expect(Set(interfaces) == ["eth0", "veth0"])
        try scene.finish()
    }
}
