import FastNATTesting
import Foundation
import Testing

@Suite("Masquerading", .enabled(if: isRoot, "needs root"))
struct MasqueradeTests {
    private static let bridges = Variant.of(Publisher.allCases, [.bridge])
    private static let fastnatBridges = Variant.of(Publisher.fastnat, [.bridge])

    @Test("A server outside sees the host's address and the container's port", arguments: Variant.all)
    func outside(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let http = try TrafficServer(.http, in: scene.client, port: 80)
        let datagrams = try TrafficServer(.udpReport, in: scene.client, port: 53)
        try scene.path.masquerade(variant.family)
        let container = scene.topology.container.namespace
        let host = scene.published(0).address
        #expect(try Traffic.get(scene.outside(80), from: container, sourcePort: 41_000) == "\(host) 41000")
        let size = 3_000_000
        #expect(try Traffic.get(scene.outside(80), path: "/bytes/\(size)", from: container).utf8.count == size)
        let answer = try Traffic.exchangeUDP([120], with: scene.outside(53), from: container, sourcePort: 42_000)
        #expect(String(decoding: answer, as: UTF8.self) == "\(host) 42000 x")
        if variant.publisher.isFastnat {
            let listed = try #require(try scene.list("masquerade").first)
            #expect(listed["flows"] as? Int == 3 && listed["packets"] as? Int ?? 0 > 10)
        }
        _ = (http, datagrams)
        try scene.finish()
    }

    @Test("Two containers with one source port both get their answers", arguments: bridges)
    func sharedPort(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = 2 }
        let server = try TrafficServer(.udpReport, in: scene.client, port: 53)
        try scene.path.masquerade(variant.family)
        let answers = try scene.topology.containers.map { container in
            String(
                decoding: try Traffic.exchangeUDP(
                    [120], with: scene.outside(server.port), from: container.namespace, sourcePort: 42_000),
                as: UTF8.self)
        }
        let host = scene.published(0).address
        #expect(answers[0] == "\(host) 42000 x")
        #expect(answers[1] != answers[0] && answers[1].hasPrefix("\(host) ") && answers[1].hasSuffix(" x"))
        try scene.finish()
    }

    @Test("When the uplink's address changes, a conversation goes on with the new one", arguments: Variant.some)
    func address(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try TrafficServer(.udpReport, in: scene.client, port: 53)
        try scene.path.masquerade(variant.family)
        let pulse = try Pulse(.udp, to: scene.outside(server.port), from: scene.topology.container.namespace)
        let (old, new, length) =
            variant.family == .v4
            ? ("192.0.2.1/24", "192.0.2.9", "24") : ("2001:db8:1::1/64", "2001:db8:1::9", "64 nodad")
        try pulse.awaitAnswer("the old address") { $0.hasPrefix("\(scene.published(0).address) ") }
        try scene.host.ip(["address del \(old) dev eth0", "address add \(new)/\(length) dev eth0"])
        try pulse.awaitAnswer("the new address", timeout: .seconds(10)) { $0.hasPrefix("\(new) ") }
        try pulse.stop()
        try scene.finish()
    }

    @Test("Traffic among containers and to the host keeps its source", arguments: bridges)
    func inside(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = 2 }
        let container = try scene.serve(.http, on: 80, container: 1)
        let host = try TrafficServer(.http, in: scene.host, port: 81)
        try scene.path.masquerade(variant.family)
        let servers = [scene.target(container.port, container: 1), scene.published(host.port)]
        for (port, server) in zip([41_000, 41_001] as [UInt16], servers) {
            let answer = try Traffic.get(server, from: scene.topology.container.namespace, sourcePort: port)
            #expect(answer == "\(scene.target(port).address) \(port)")
        }
        try scene.finish()
    }

    @Test("--type eim: one port for all destinations, open to whom --filter says", arguments: fastnatBridges)
    func endpoints(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let servers = try [53, 54].map { try TrafficServer(.udpReport, in: scene.client, port: $0) }
        try scene.run(
            "masquerade", "add", Topology.containerNetwork(variant.family), "--iface", "eth0", "--ports", "50000-50999",
            "--type", "eim", "--filter", "endpoint")
        let container = scene.topology.container.namespace
        let answers = try servers.map {
            String(
                decoding: try Traffic.exchangeUDP(
                    [120], with: scene.outside($0.port), from: container, sourcePort: 42_000), as: UTF8.self)
        }
        #expect(answers[0] == answers[1])
        let port = try #require(answers[0].split(separator: " ").dropFirst().first.flatMap { UInt16($0) })
        #expect((50_000...50_999).contains(port))
        #expect(try scene.list("conntrack").contains { $0["state"] as? String == "endpoint" })

        let open = try scene.serve(.udpReport, on: 42_000)
        let uninvited = try Traffic.exchangeUDP(
            [121], with: scene.published(port), from: scene.client, sourcePort: 9_999)
        #expect(String(decoding: uninvited, as: UTF8.self) == "\(scene.topology.client.address(variant.family)) 9999 y")
        _ = open
        try scene.finish()
    }

    @Test("A container reaches published ports of another one and of itself", arguments: Variant.fastnat)
    func hairpin(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = variant.layout == .bridge ? 2 : 1 }
        let server = try scene.serve(.http, on: 80)
        let datagrams = try scene.serve(.udpReport, on: 53)
        try scene.publish(8_080, to: server.port)
        try scene.publish(5_353, to: datagrams.port, .udp)
        for container in scene.topology.containers {
            try expectHairpin(scene, from: container.namespace)
        }
        try scene.finish()
    }

    @Test("A container on another bridge does, too", arguments: fastnatBridges)
    func hairpinAcrossBridges(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = 2 }
        let server = try scene.serve(.http, on: 80)
        let datagrams = try scene.serve(.udpReport, on: 53)
        let other = scene.topology.containers[1].namespace
        try scene.host.ip([
            "link add br1 type bridge", "link set veth1 master br1", "link set br1 up",
            "address add 172.21.0.1/24 dev br1",
            "address add fd00:21::1/64 dev br1 nodad",
        ])
        try other.ip([
            "address del \(scene.topology.containers[1].v4)/24 dev eth0",
            "address del \(scene.topology.containers[1].v6)/64 dev eth0", "address add 172.21.0.2/24 dev eth0",
            "address add fd00:21::2/64 dev eth0 nodad", "route replace 0.0.0.0/0 via 172.21.0.1",
            "route replace ::/0 via fd00:21::1",
        ])
        try scene.publish(8_080, to: server.port)
        try scene.publish(5_353, to: datagrams.port, .udp)
        let network = variant.family == .v4 ? "172.21.0.0/24" : "fd00:21::/64"
        try scene.run("masquerade", "add", network, "--iface", "eth0")
        try expectHairpin(scene, from: other)
        try expectHairpin(scene, from: scene.topology.container.namespace)
        try scene.finish()
    }

    @Test("Both ends of a hairpin learn by ICMP what becomes of it", arguments: Variant.fastnat)
    func hairpinErrors(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = variant.layout == .bridge ? 2 : 1 }
        try scene.publish(7_000, to: 7, .udp)
        let host = scene.published(0).address
        let target = scene.topology.container.namespace
        for (number, container) in scene.topology.containers.enumerated() {
            let port = 42_000 + UInt16(number)
            for (hops, kind) in [(1, .timeExceeded), (64, .portUnreachable), (64, .portUnreachable)]
                as [(Int, ICMPErrorKind)]
            {
                let error = try Traffic.errorAboutUDP(
                    to: scene.published(7_000), from: container.namespace, sourcePort: port, hops: hops)
                #expect(error == .init(kind, from: host))
            }
            // Nobody waits for the answer.
            let error = try Traffic.errorAboutUDP(to: scene.published(port), from: target, sourcePort: 7)
            #expect(error == .init(.portUnreachable, from: host))
        }
        #expect(try scene.list("conntrack").count == scene.topology.containers.count)
        try scene.finish()
    }

    @Test("--type eim: containers reach each other's external ports, and their own", arguments: fastnatBridges)
    func endpointHairpin(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.containers = 2 }
        let outside = try TrafficServer(.udpReport, in: scene.client, port: 53)
        try scene.run(
            "masquerade", "add", Topology.containerNetwork(variant.family), "--iface", "eth0", "--ports", "50000-50999",
            "--type", "eim", "--filter", "endpoint")
        let containers = scene.topology.containers.map(\.namespace)
        func seen(_ server: Packet.Endpoint, _ container: Int, _ port: UInt16) throws -> String {
            let answer = try Traffic.exchangeUDP([120], with: server, from: containers[container], sourcePort: port)
            return String(decoding: answer, as: UTF8.self)
        }
        let external = try seen(scene.outside(outside.port), 0, 42_000)
        let port = try #require(external.split(separator: " ").dropFirst().first.flatMap { UInt16($0) })
        let inside = try scene.serve(.udpReport, on: 42_000)
        for (container, source) in [(1, 43_000), (0, 44_000)] as [(Int, UInt16)] {
            let known = try seen(scene.outside(outside.port), container, source)
            #expect(try seen(scene.published(port), container, source) == known)
            #expect(known.hasPrefix("\(scene.published(0).address) 50"))
        }
        _ = inside
        try scene.finish()
    }

    private func expectHairpin(_ scene: Scene, from container: NetworkNamespace) throws {
        let host = scene.published(0).address
        #expect(try Traffic.get(scene.published(8_080), from: container).hasPrefix("\(host) "))
        let answer = try Traffic.exchangeUDP([120], with: scene.published(5_353), from: container)
        #expect(String(decoding: answer, as: UTF8.self).hasPrefix("\(host) "))
    }

    @Test("load attaches to a container's interface that came after masquerade add")
    func newInterface() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        let server = try TrafficServer(.http, in: scene.client, port: 80)
        try scene.path.masquerade(.v4)
        try scene.host.ip([
            "link add late type veth peer name eth9 netns \(scene.topology.container.namespace.name)",
            "link set late up",
            "route add 172.20.0.99/32 dev late",
        ])
        func roles() throws -> Set<String> {
            let programs = try #require(try scene.status()["programs"] as? [[String: Any]])
            return Set(
                programs.filter { $0["role"] as? String == "container" }.compactMap { $0["interface"] as? String })
        }
        #expect(try roles() == ["veth0"])
        try scene.run("load", "--iface", "eth0", "--mode", "tc")
        #expect(try roles() == ["veth0", "late"])
        #expect(
            try Traffic.get(scene.outside(server.port), from: scene.topology.container.namespace).hasPrefix(
                "192.0.2.1 "))
        try scene.finish()
    }

    /// A command, its exit status, and what the error names.
    private static let wrong: [(String, Int32, String)] = [
        ("add 172.20.0.0/24 --iface eth0", 73, "fastnat masquerade rm 172.20.0.0/24"),
        ("add 172.99.0.0/24 --iface eth0", 68, "172.99.0.0/24"),
        ("add 172.20.0.0/25 --iface br0", 64, "--iface br0"),
        ("add 172.20.0.0/25 --iface eth7", 66, "eth7"),
        ("add 172.20.0.0/25 --iface eth0 --to 192.0.2.99", 64, "192.0.2.99"),
        ("add 172.20.0.0/25 --iface eth0 --to 2001:db8:1::1", 64, "2001:db8:1::1"),
        ("add 172.20.0.0/25 --iface eth0 --to 127.0.0.1", 64, "127.0.0.1"),
        ("add 172.20.0.0/25 --iface eth0 --ports 0-99", 64, "port 0"),
        ("add 172.20.0.0/25 --iface eth0 --ports 99-9", 64, "9-99"),
        ("add 172.20.0.0/25 --iface eth0 --filter port", 64, "--type eim"),
        ("add 172.20.0.1/25 --iface eth0", 64, "172.20.0.0/25"),
        ("add 172.20.0.0/25 --iface eth0 --exempt fd00::/8", 64, "fd00::/8"),
        ("rm 172.20.0.0/25", 66, "fastnat masquerade list"), ("rm", 64, "--owner"),
        ("rm 172.20.0.0/24 --owner nobody", 66, "nobody masquerades not 172.20.0.0/24"),
        ("rm --owner nobody", 66, "nobody masquerades nothing"),
    ]

    @Test("Each error has its status and says what to do")
    func errors() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        try scene.path.masquerade(.v4)
        for (arguments, status, name) in Self.wrong {
            let result = try fastnat.run(
                ["masquerade"] + arguments.split(separator: " ").map(String.init), check: false)
            #expect(result.status == status && result.errors.contains(name) && result.output.isEmpty, "\(result)")
        }
        #expect(try scene.list("masquerade").count == 1)
        try scene.host.setSystemControl("net.ipv6.conf.all.forwarding", "0")
        let result = try fastnat.run(["masquerade", "add", "fd00:20::/64", "--iface", "eth0"], check: false)
        #expect(result.status == 71 && result.errors.contains("net.ipv6.conf.all.forwarding=1"), "\(result)")
        try scene.finish()
    }

    @Test("list shows what was added")
    func list() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        try scene.run(
            "masquerade", "add", "172.20.0.0/24", "--iface", "eth0", "--to", "192.0.2.1", "--ports", "32768-60999",
            "--limit-flows-per-source", "512", "--limit-rate", "90/m", "--type", "eim", "--owner", "docker:br0",
            "--exempt", "10.0.0.0/8", "192.168.0.0/16")
        try scene.path.masquerade(.v6)
        let listed = try scene.list("masquerade")
        let values = listed.map { object in
            ["network", "uplink", "to", "ports", "exempt", "type", "filter", "owner", "packets", "bytes", "flows"].map {
                key in
                object[key].map { "\($0)" } ?? "missing"
            }.joined(separator: " ").replacing("\n", with: "").replacing("    ", with: "")
        }
        #expect(values.count == 2 && listed.allSatisfy { $0.count == 15 })
        #expect(listed[0]["limitFlowsPerSource"] as? Int == 512 && listed[0]["limitRate"] as? String == "90/m")
        #expect(listed[1]["limitFlowsPerSource"] is NSNull && listed[1]["limitRate"] is NSNull)
        #expect(try scene.run("masquerade", "list").output.contains(" rate=90/m,flows-per-source=512 "))
        #expect(values[0].hasPrefix("172.20.0.0/24 eth0 192.0.2.1 32768-60999 "))
        #expect(listed[0]["exempt"] as? [String] == ["10.0.0.0/8", "192.168.0.0/16"])
        #expect(values[0].hasSuffix(" eim address docker:br0 0 0 0"))
        #expect(values[1].hasPrefix("fd00:20::/64 eth0 <null> <null> "))
        #expect(values[1].hasSuffix(" symmetric <null> <null> 0 0 0"))
        try scene.run("masquerade", "rm", "--owner", "docker:br0")
        #expect(try scene.list("masquerade").count == 1)
        try scene.finish()
    }
}

extension Scene {
    /// An address outside the host, with a port.
    fileprivate func outside(_ port: UInt16) -> Packet.Endpoint { topology.client.endpoint(family, port) }
}
