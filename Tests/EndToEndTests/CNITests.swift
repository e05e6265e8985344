import FastNATTesting
import Foundation
import Testing

@Suite("CNI", .enabled(if: isRoot, "needs root"))
struct CNITests {
    typealias Container = CNIRuntime.Container

    /// Every version that Debian's plugins speak, with each plugin that makes interfaces and each hook.
    struct Chain: Sendable, CustomTestStringConvertible {
        let version: String
        let kind: CNIRuntime.Kind
        let mode: FastnatPath.Mode
        var testDescription: String { "\(version) \(kind) \(mode)" }

        static let all = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"].flatMap { version in
            CNIRuntime.Kind.allCases.flatMap { kind in
                FastnatPath.Mode.allCases.map { Chain(version: version, kind: kind, mode: $0) }
            }
        }
    }

    @Test("A container's ports are published from ADD to DEL, behind Debian's plugins", arguments: Chain.all)
    func life(_ chain: Chain) throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let runtime = try CNIRuntime.network(
            chain.kind, on: scene.host, version: chain.version,
            options: ["uplinks": ["eth0"], "mode": chain.mode.rawValue, "snat": true, "backend": "iptables"])
        let container = try Container("c1", "8080:80", "5353:53/udp", "192.0.2.1:9000:80/TCP")
        let servers = [
            try TrafficServer(.http, in: container.namespace, port: 80),
            try TrafficServer(.udpReport, in: container.namespace, port: 53),
        ]
        let results = try runtime.add(container) {
            try container.namespace.command(["ethtool", "-K", "eth0", "gro", "on"])
        }
        #expect(results.count == 2 && results[0] == results[1], "\(results)")
        #expect(results[1]["cniVersion"] as? String == chain.version)

        for family in Topology.Family.allCases {
            let (host, client) = (scene.topology.hostAddress(family), scene.topology.client.address(family))
            let page = Packet.Endpoint(host, port: 8080)
            let source: UInt16 = family == .v4 ? 41_004 : 41_006
            #expect(try Traffic.get(page, from: scene.client, sourcePort: source) == "\(client) \(source)")
            #expect(try Traffic.get(page, path: "/bytes/300000", from: scene.client).utf8.count == 300_000)
            let answer = try Traffic.exchangeUDP(
                [120], with: Packet.Endpoint(host, port: 5353), from: scene.client, sourcePort: 42_000)
            #expect(String(decoding: answer, as: UTF8.self) == "\(client) 42000 x")
            let named = Traffic.canGet(Packet.Endpoint(host, port: 9000), from: scene.client)
            #expect(named == (family == .v4))
        }
        #expect(Set(try scene.list("map").compactMap { $0["owner"] as? String }) == ["cni:testnet/c1/eth0"])
        let hooks = try #require(try scene.status()["programs"] as? [[String: Any]]).compactMap {
            $0["hook"] as? String
        }
        #expect(hooks.contains("xdp") == (chain.mode == .xdp))

        if chain.version >= "0.4.0" { try runtime.check(container, results[1]) }
        try runtime.del(container, results[1])
        #expect(try scene.list("map").isEmpty)
        #expect(!Traffic.canGet(scene.published(8080), from: scene.client))
        try runtime.last("DEL", container)
        _ = servers
        try scene.finish()
        try runtime.last("DEL", container)
    }

    @Test("Of two containers that want one port, the second is told whose it is", arguments: CNIRuntime.Kind.allCases)
    func conflict(_ kind: CNIRuntime.Kind) throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let runtime = try CNIRuntime.network(kind, on: scene.host, options: ["uplinks": ["eth0"]])
        let (first, second) = (try Container("first", "8080:80"), try Container("second", "8081:80", "8080:80"))
        let server = try TrafficServer(.http, in: first.namespace, port: 80)
        let result = try #require(try runtime.add(first).last)
        let failure = try #require(throws: CNIRuntime.Failure.self) { try runtime.add(second) }
        #expect(failure.code == 100 && failure.message.contains("of cni:testnet/first/eth0"), "\(failure)")
        #expect(try scene.list("map").allSatisfy { $0["owner"] as? String == "cni:testnet/first/eth0" })
        try runtime.del(second)
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        try runtime.check(first, result)
        try runtime.del(first, result)
        try runtime.add(second)
        _ = server
        try scene.finish()
    }

    @Test(
        "A queue that a plugin behind fastnat's puts on a container's interface gets every packet",
        arguments: CNIRuntime.Kind.allCases)
    func queue(_ kind: CNIRuntime.Kind) throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let runtime = try CNIRuntime.network(kind, on: scene.host, options: ["uplinks": ["eth0"]])
        // The second one comes across the first one's interface, which may be in the middle of its chain.
        let containers = [try Container("c1", "7000:7/udp"), try Container("c2", "7001:7/udp")]
        let server = try TrafficServer(.udpEcho, in: containers[0].namespace, port: 7)
        let results = try containers.map { try #require(try runtime.add($0).last) }
        let interfaces = try #require(results[0]["interfaces"] as? [[String: Any]])
        let end = try #require(interfaces.compactMap { $0["name"] as? String }.first { $0.hasPrefix("veth") })
        try scene.host.command(["tc", "qdisc", "add", "dev", end, "root", "pfifo", "limit", "1000"])
        let pulse = try Pulse(.udp, to: scene.published(7000), from: scene.client)
        try pulse.awaitAnswers(100)
        let statistics = try scene.host.command(["tc", "-s", "-j", "qdisc", "show", "dev", end]).outputBytes
        let queues = try #require(try JSONSerialization.jsonObject(with: Data(statistics)) as? [[String: Any]])
        #expect(try #require(queues.first { $0["kind"] as? String == "pfifo" }?["packets"] as? Int) >= 100)
        for (container, result) in zip(containers, results) { try runtime.del(container, result) }
        _ = server
        try scene.finish()
    }

    @Test("ADDs at once load fastnat once, and each publishes its ports")
    func concurrency() async throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct).with { $0.hasRouter = true }, isStarted: false)
        let runtime = try CNIRuntime.network(.bridge, on: scene.host)
        let containers = try (0..<8).map { try Container("c\($0)", "\(8000 + $0):80") }
        let servers = try containers.map { try TrafficServer(.http, in: $0.namespace, port: 80) }
        try await each(containers) { try runtime.add($0) }
        // The uplink is the one of the default route, because the configuration names none.
        let uplinks = try #require(try scene.status()["programs"] as? [[String: Any]])
            .filter { $0["role"] as? String == "uplink" }.compactMap { $0["interface"] as? String }
        #expect(uplinks == ["eth0"])
        for port in 8000..<8008 { #expect(Traffic.canGet(scene.published(UInt16(port)), from: scene.client)) }
        try await each(containers) { try runtime.del($0) }
        #expect(try scene.list("map").isEmpty)
        _ = servers
        try scene.finish()
    }

    /// Does something with all containers at the same time, each on a thread of its own.
    private func each(_ containers: [Container], _ body: @Sendable @escaping (Container) throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for container in containers {
                group.addTask {
                    try await withCheckedThrowingContinuation { continuation in
                        Thread.detachNewThread { continuation.resume(with: Result { try body(container) }) }
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    @Test("A local program keeps its port, unless the configuration says force")
    func listener() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let container = try Container("c1", "8080:80")
        let local = try TrafficServer(.tcpNamed("local"), in: scene.host, port: 8080)
        let server = try TrafficServer(.http, in: container.namespace, port: 80)
        let runtime = try CNIRuntime.network(.bridge, on: scene.host, options: ["uplinks": ["eth0"]])
        let failure = try #require(throws: CNIRuntime.Failure.self) { try runtime.add(container) }
        #expect(failure.code == 100 && failure.message.contains("\"force\": true"), "\(failure)")
        try runtime.del(container)
        let forced = try CNIRuntime.network(.bridge, on: scene.host, options: ["uplinks": ["eth0"], "force": true])
        try forced.add(container)
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        _ = (local, server)
        try scene.finish()
    }

    @Test(
        "Containers reach the world by a masquerade of the network, each on its own link, too",
        arguments: CNIRuntime.Kind.allCases)
    func masquerade(_ kind: CNIRuntime.Kind) throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let runtime = try CNIRuntime.network(
            kind, on: scene.host, options: ["uplinks": ["eth0"], "masquerade": ["exempt": ["198.18.0.0/15"]]])
        let outside = try TrafficServer(.http, in: scene.client, port: 80)
        for id in ["c1", "c2"] {
            let container = try Container(id)
            try runtime.add(container)
            for family in Topology.Family.allCases {
                let client = scene.topology.client.endpoint(family, 80)
                let seen = try Traffic.get(client, from: container.namespace)
                #expect(seen.hasPrefix("\(scene.topology.hostAddress(family)) "), "\(seen)")
            }
        }
        let rules = try scene.list("masquerade")
        #expect(Set(rules.compactMap { $0["network"] as? String }) == ["10.77.0.0/24", "fd00:77::/64"])
        _ = outside
        try scene.finish()
    }

    @Test("An ADD that fails half-way leaves no mapping")
    func rollback() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct).with { $0.hasSecondUplink = true })
        let runtime = try CNIRuntime.network(.bridge, on: scene.host, options: ["masquerade": ["uplink": "cni0"]])
        let container = try Container("c1", "8080:80")
        let failure = try #require(throws: CNIRuntime.Failure.self) { try runtime.add(container) }
        #expect(failure.code == 101 && failure.message.contains("no uplink of fastnat"), "\(failure)")
        #expect(try scene.list("map").isEmpty)
        try runtime.del(container)
        try scene.finish()
    }

    @Test(
        "In 1.1.0, STATUS tells whether an ADD can succeed, CHECK what is wrong, and GC takes what nobody has any more")
    func latest() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let lacking = try CNIRuntime.network(.bridge, on: scene.host, version: "1.1.0")
        #expect(throws: CNIRuntime.Failure.self) { try lacking.last("STATUS") }
        let older = try CNIRuntime.network(.bridge, on: scene.host, options: ["uplinks": ["eth0"]])
        let runtime = try CNIRuntime.network(.bridge, on: scene.host, version: "1.1.0", options: ["uplinks": ["eth0"]])
        let gone = try CNIRuntime.network(.bridge, on: scene.host, version: "1.1.0", options: ["uplinks": ["eth7"]])
        try runtime.last("STATUS")
        #expect(Self.code { try gone.last("STATUS") } == 50)
        #expect(Self.code { try lacking.last("STATUS") } == 50)

        // Debian's plugins do not speak 1.1.0: their part is done in 1.0.0.
        let kept = try Container("kept")
        let dropped = try Container("dropped")
        var results: [NSDictionary] = []
        for (container, port) in [(kept, "8080:80"), (dropped, "8081:80")] {
            let result = try #require(try older.add(container).last).mutableCopy() as? NSMutableDictionary
            result?["cniVersion"] = "1.1.0"
            let previous = try #require(result)
            let published = container.publishing(port)
            #expect(try runtime.last("ADD", published, ["prevResult": previous]) == previous)
            #expect(try runtime.last("CHECK", published, ["prevResult": previous]) == nil)
            results.append(previous)
        }
        let server = try TrafficServer(.http, in: kept.namespace, port: 80)
        try runtime.last("STATUS")
        #expect(Self.code { try gone.last("STATUS") } == 51)
        #expect(Self.code { try runtime.last("GC") } == 7)
        try runtime.last("GC", nil, ["cni.dev/valid-attachments": [["containerID": "kept", "ifname": "eth0"]]])
        #expect(
            try scene.list("map").map { $0["owner"] as? String } == ["cni:testnet/kept/eth0", "cni:testnet/kept/eth0"])
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        let check = { (container: Container, index: Int, port: String) in
            Self.code {
                try runtime.last("CHECK", container.publishing(port), ["prevResult": results[index]])
            }
        }
        #expect(check(kept, 0, "8080:80") == nil)
        #expect(check(kept, 0, "8090:80") == 105)
        #expect(check(dropped, 1, "8081:80") == 105)
        try scene.host.ip(["link del cni0"])
        #expect(check(kept, 0, "8080:80") == 101)
        try scene.finish()
        #expect(check(kept, 0, "8080:80") == 50)
        _ = server
    }

    /// The code of the error that a plugin ends with; nil when it has none.
    private static func code(_ body: () throws -> some Any) -> Int? {
        do {
            _ = try body()
            return nil
        } catch {
            return (error as? CNIRuntime.Failure)?.code
        }
    }
}
