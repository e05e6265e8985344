import FastNATTesting
import Foundation
import Testing

@Suite("Mappings", .enabled(if: isRoot, "needs root"))
struct MappingTests {
    private static let variants = Variant.of(Publisher.fastnat, [.bridge])

    @Test("--allow: for everybody else the port is as if it were not published", arguments: variants)
    func allow(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.clients = 2 }
        let server = try scene.serve(.tcpEcho, on: 7)
        let datagrams = try scene.serve(.udpReport, on: 7)
        let (allowed, other) = (scene.topology.clients[0], scene.topology.clients[1])
        let network = "\(allowed.address(variant.family))/\(variant.family == .v4 ? 32 : 128)"
        let elsewhere = variant.family == .v4 ? "10.0.0.0/8" : "fd99::/16"
        for transport in TransportProtocol.allCases {
            try scene.run(
                "map", "add", "7000/\(transport)", "\(scene.target(server.port))", "--allow", elsewhere, network)
        }
        let payload = Array("x".utf8)
        #expect(try Traffic.exchangeTCP(payload, with: scene.published(7000), from: allowed.namespace) == payload)
        try Traffic.exchangeUDP(payload, with: scene.published(7000), from: allowed.namespace)
        #expect(try scene.packets(notForwardedFor: "not_allowed") == 0)

        let refused = try other.namespace.command(
            ["curl", "-sS", "-g", "--max-time", "3", "http://\(scene.published(7000))/"], check: false)
        #expect(refused.status == 7, "\(refused)")  // refused, not timed out
        let pulse = try Pulse(.udp, to: scene.published(7000), from: other.namespace)
        try pulse.awaitAnswer("an ICMP error", timeout: .seconds(3)) { $0 == "refused" }
        #expect(try pulse.stop().allSatisfy { $0 == "refused" || $0 == "lost" })
        #expect(try scene.packets(notForwardedFor: "not_allowed") >= 2)
        let listed = try scene.list("map").map { Set($0["allow"] as? [String] ?? []) }
        #expect(listed == [[elsewhere, network], [elsewhere, network]])
        _ = datagrams
        try scene.finish()
    }

    @Test("A mapping of one address beats that of all, which includes addresses added later", arguments: variants)
    func addresses(_ variant: Variant) throws {
        let scene = try Scene(variant) { $0.hasSecondUplink = true }
        let second = try #require(scene.topology.secondClient).namespace
        let servers = try [
            scene.serve(.tcpNamed("one"), on: 71), scene.serve(.udpNamed("one"), on: 71),
            scene.serve(.tcpNamed("all"), on: 72), scene.serve(.udpNamed("all"), on: 72),
        ]
        for transport in TransportProtocol.allCases {
            try scene.run("map", "add", "\(scene.published(7000))/\(transport)", "\(scene.target(71))")
            try scene.run("map", "add", "7000/\(transport)", "\(scene.target(72))")
        }
        let (other, later): (Packet.Endpoint, Packet.Endpoint) =
            variant.family == .v4
            ? ("198.51.100.1:7000", "192.0.2.77:7000") : ("[2001:db8:2::1]:7000", "[2001:db8:1::77]:7000")
        func name(at server: Packet.Endpoint, from client: NetworkNamespace, _ transport: TransportProtocol) throws
            -> String
        {
            let answer = try Pulse(transport, to: server, from: client).stop().first
            return String(answer?.prefix { $0 != " " } ?? "")
        }
        try #require(throws: (any Error).self) { try name(at: later, from: scene.client, .tcp) }
        let length = variant.family == .v4 ? "24" : "64 nodad"
        try scene.host.ip(["address add \(later.address)/\(length) dev eth0"])
        for transport in TransportProtocol.allCases {
            #expect(try name(at: scene.published(7000), from: scene.client, transport) == "one")
            #expect(try name(at: other, from: second, transport) == "all")
            #expect(try name(at: later, from: scene.client, transport) == "all")
        }
        try scene.run("map", "rm", "\(scene.published(7000))")
        #expect(try name(at: scene.published(7000), from: scene.client, .tcp) == "all")
        #expect(try name(at: scene.published(7000), from: scene.client, .udp) == "one")
        _ = servers
        try scene.finish()
    }

    @Test("A thousand ports as one entry: first, middle and last work, their neighbours do not", arguments: variants)
    func ranges(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let offsets: [UInt16] = [0, 500, 999]
        let servers = try offsets.map { try scene.serve(.udpNamed("port\($0)"), on: 30_000 + $0) }
        let web = try scene.serve(.http, on: 80)
        try scene.run("map", "add", "20000-20999/udp", "\(scene.target(30_000))-30999")
        try scene.run("map", "add", "20000-20999/tcp", "\(scene.target(web.port))")
        for offset in offsets {
            let answer = try Traffic.exchangeUDP(
                [65], with: scene.published(20_000 + offset), from: scene.client)
            #expect(String(decoding: answer, as: UTF8.self) == "port\(offset) A")
            #expect(Traffic.canGet(scene.published(20_000 + offset), from: scene.client))
        }
        for port: UInt16 in [19_999, 21_000] {
            #expect(!Traffic.canGet(scene.published(port), from: scene.client))
            let pulse = try Pulse(.udp, to: scene.published(port), from: scene.client)
            #expect(try pulse.stop().allSatisfy { $0 == "refused" || $0 == "lost" })
        }
        let mappings = try scene.list("map")
        #expect(mappings.count == 2)
        #expect(mappings.map { $0["flows"] as? Int } == [3, 3])
        _ = servers
        try scene.finish()
    }

    @Test("Ten thousand ports are one entry of the list and one of the map")
    func largeRange() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        let server = try scene.serve(.http, on: 80)
        try scene.run("map", "add", "10000-19999", "\(scene.target(server.port))")
        #expect(Traffic.canGet(scene.published(19_999), from: scene.client))
        let mappings = try scene.list("map")
        #expect(mappings.count == 1)
        #expect(mappings.first?["portEnd"] as? Int == 19_999)
        let pin = "/run/fastnat/bpf/\(try scene.host.cookie)/maps/mappings"
        #expect(try bpftool(["map", "dump", "pinned", pin]).count == 1)
        try scene.finish()
    }

    @Test("An owner's mappings go together, and others' stay")
    func owners() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        try scene.run("map", "add", "80", "172.20.0.2:80")
        try scene.run("map", "add", "81", "172.20.0.2:81", "--owner", "cni:net/one/eth0")
        try scene.run("map", "add", "--file", "-", "--owner", "two", input: "82 172.20.0.2:82\n83 172.20.0.2:83")
        let list = try scene.run("map", "list").output.split(separator: "\n")
        #expect(list.map { $0.split(separator: " ")[3] } == ["OWNER", "-", "cni:net/one/eth0", "two", "two"])

        let fastnat = try #require(scene.fastnat)
        for (arguments, status, name) in [
            ("map add 82 172.20.0.2:9", 73, "of two:"), ("map rm 82 --owner cni:net/one/eth0", 66, "cni:net/one/eth0"),
            ("map rm --owner three", 66, "three"),
            ("map add 90 172.20.0.2:9 --owner \(String(repeating: "x", count: 257))", 64, "256"),
        ] {
            let result = try fastnat.run(arguments.split(separator: " ").map(String.init), check: false)
            #expect(result.status == status && result.errors.contains(name), "\(result)")
        }
        #expect(try scene.list("map").count == 4)
        try scene.run("map", "rm", "83", "--owner", "two")
        try scene.run("map", "rm", "81")
        try scene.run("map", "rm", "--owner", "two")
        #expect(try scene.list("map").map { $0["port"] as? Int } == [80])
        try scene.finish()
    }

    @Test("Counters and states of a flow are what happened", arguments: Variant.fastnat)
    func counters(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.udpEcho, on: 7)
        try scene.publish(7000, to: server.port, .udp)
        for _ in 0..<5 {
            try Traffic.exchangeUDP(
                [UInt8](repeating: 0, count: 100), with: scene.published(7000), from: scene.client, sourcePort: 41_000)
        }
        let flow = try #require(try scene.list("conntrack").first)
        let length = 100 + 8 + (variant.family == .v4 ? 20 : 40)
        #expect(flow["state"] as? String == "replied")
        #expect(flow["packets"] as? [String: Int] == ["original": 5, "reply": 5])
        #expect(flow["bytes"] as? [String: Int] == ["original": 5 * length, "reply": 5 * length])
        let reply = try #require(flow["reply"] as? [String: Any])
        #expect(reply["source"] as? String == scene.target(7).address.description)
        #expect(reply["sourcePort"] as? Int == 7)
        let mapping = try #require(try scene.list("map").first)
        #expect(
            mapping["packets"] as? Int == 10 && mapping["bytes"] as? Int == 10 * length && mapping["flows"] as? Int == 1
        )
        try scene.run("conntrack", "flush", "--mapping", "7000/udp")
        #expect(try scene.run("conntrack", "count").output == "0")
        try scene.finish()
    }
}
