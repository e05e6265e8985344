import FastNATTesting
import Foundation
import Testing

@Suite("The command line", .enabled(if: isRoot, "needs root"))
struct CommandLineTests {
    @Test("Commands that succeed say nothing")
    func silence() throws {
        let scene = try Scene(.fastnatXDP, Topology.Options(.direct), isStarted: false)
        for arguments in [
            ["load", "--iface", "eth0"], ["load", "--iface", "eth0", "--mode", "xdp"],
            ["map", "add", "80", "172.20.0.2:80"], ["map", "add", "443/udp", "[fd00:20::2]:443"], ["map", "rm", "80"],
            ["map", "flush"], ["unload", "--iface", "eth0"], ["load", "--iface", "eth0"], ["unload"],
        ] {
            let result = try #require(scene.fastnat).run(arguments)
            #expect(result.outputBytes.isEmpty && result.errors.isEmpty, "\(result)")
        }
        try scene.expectNothingAttached()
    }

    @Test("JSON has exactly the documented keys", arguments: Topology.Family.allCases)
    func json(_ family: Topology.Family) throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), family)
        #expect(try scene.run("map", "list", "--json").output == "[]")
        #expect(try scene.run("conntrack", "list", "--json").output == "[]")
        let server = try scene.serve(.http, on: 80)
        let network = family == .v4 ? "192.0.2.0/24" : "2001:db8:1::/64"
        try scene.run("map", "add", "8080", "\(scene.target(server.port))")
        try scene.run(
            "map", "add", "\(scene.published(9000))-9009/udp", "\(scene.target(53))", "--owner", "docker:1", "--allow",
            network)
        try Traffic.get(scene.published(8080), from: scene.client, sourcePort: 45_000)

        let mappings = try scene.list("map")
        let keys: Set = [
            "protocol", "family", "address", "port", "portEnd", "target", "targetPort", "targetPortEnd", "allow",
            "owner",
            "packets", "bytes", "flows", "limitFlows", "limitRate", "limitFlowsPerSource", "limitRatePerSource",
        ]
        for mapping in mappings {
            #expect(Set(mapping.keys) == keys && mapping["family"] as? String == (family == .v4 ? "ipv4" : "ipv6"))
        }
        let (tcp, udp) = (mappings[0], mappings[1])
        #expect(tcp["owner"] is NSNull && udp["owner"] as? String == "docker:1")
        let target = scene.target(80).address.description
        #expect(tcp["protocol"] as? String == "tcp" && tcp["address"] is NSNull)
        #expect(tcp["port"] as? Int == 8080 && tcp["portEnd"] as? Int == 8080)
        #expect(tcp["target"] as? String == target && tcp["targetPort"] as? Int == 80)
        #expect(tcp["allow"] as? [String] == [] && tcp["flows"] as? Int == 1)
        #expect((tcp["packets"] as? Int ?? 0) >= 9 && (tcp["bytes"] as? Int ?? 0) > 400)
        #expect(udp["protocol"] as? String == "udp")
        #expect(udp["address"] as? String == scene.published(0).address.description)
        #expect(udp["port"] as? Int == 9000 && udp["portEnd"] as? Int == 9009)
        #expect(udp["allow"] as? [String] == [network] && udp["flows"] as? Int == 0)

        let flow = try #require(try scene.list("conntrack").first)
        #expect(
            Set(flow.keys) == ["protocol", "state", "original", "reply", "packets", "bytes", "age", "expires"])
        let client = scene.topology.client.address(family).description
        let tuple = ["source", "sourcePort", "destination", "destinationPort"]
        let original = try #require(flow["original"] as? [String: Any])
        let reply = try #require(flow["reply"] as? [String: Any])
        #expect(Set(original.keys) == Set(tuple) && Set(reply.keys) == Set(tuple))
        #expect(tuple.map { "\(original[$0] ?? "")" } == [client, "45000", "\(scene.published(0).address)", "8080"])
        #expect(tuple.map { "\(reply[$0] ?? "")" } == [target, "80", client, "45000"])
        for key in ["packets", "bytes"] {
            let counts = try #require(flow[key] as? [String: Int])
            #expect(Set(counts.keys) == ["original", "reply"] && counts.values.allSatisfy { $0 > 3 })
        }
        let (age, expires) = (flow["age"] as? Double ?? -1, flow["expires"] as? Double ?? -1)
        #expect(age >= 0 && age < 30 && expires > 200 && expires <= 240, "closed: \(flow)")
        try scene.finish()
    }

    @Test("Tables show the same as JSON, under headings")
    func tables() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        try scene.run("map", "add", "8080-8089", "\(scene.target(80))")
        let list = try scene.run("map", "list").output.split(separator: "\n")
        #expect(list.count == 2 && list[0].hasPrefix("LISTEN") && list[1].contains("8080-8089/tcp"))
        #expect(try scene.run("conntrack", "list").output.hasPrefix("PROTOCOL"))
        #expect(try scene.run("conntrack", "count").output == "0")
        let status = try scene.run("status").output
        for word in ["eth0", "uplink", "tcx", "flows", "not_allowed"] { #expect(status.contains(word)) }
        try scene.finish()
    }

    @Test("Status says why an uplink has its hooks: by --mode, as long as that was the last word, or by auto")
    func why() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        func reasons() throws -> [String] {
            let programs = try #require(try scene.status()["programs"] as? [[String: Any]])
            return programs.filter { $0["role"] as? String == "uplink" }.compactMap { $0["reason"] as? String }
        }
        let automatic = "XDP on a veth takes segmentation offload away from its peer"
        #expect(try reasons() == ["chosen by --mode tc"])
        try scene.run("load", "--iface", "eth0", "--mode", "xdp")
        #expect(try reasons() == ["chosen by --mode xdp", "chosen by --mode xdp"])
        try scene.run("load", "--iface", "eth0")
        #expect(try reasons() == [automatic])
        try scene.run("load", "--iface", "eth0", "--mode", "tc")
        try scene.run("unload", "--iface", "eth0")
        try scene.run("load", "--iface", "eth0")
        #expect(try reasons() == [automatic])
        try scene.finish()
    }

    @Test("Twenty `map add` at once are all there, and none waits for ever")
    func concurrent() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        let adders = try (0..<20).map { try fastnat.spawn(["map", "add", "\(9000 + $0)", "172.20.0.2:80"]) }
        let readers = try (0..<5).map { _ in try fastnat.spawn(["map", "list", "--json"]) }
        for process in adders + readers { try process.wait().check() }
        #expect(try scene.list("map").map { $0["port"] as? Int } == Array(9000..<9020))

        // The same port: one wins, the others name it.
        let rivals = try (0..<8).map { _ in try fastnat.spawn(["map", "add", "443", "172.20.0.2:80"]) }
        let statuses = try rivals.map { try $0.wait().status }
        #expect(statuses.sorted() == [0] + Array(repeating: 73, count: 7))
        try scene.finish()
    }

    @Test("Loads and unloads at once end in one state or the other")
    func concurrentLoads() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        let processes = try (0..<12).map {
            try fastnat.spawn($0 % 3 == 2 ? ["unload"] : ["load", "--iface", "eth0", "--mode", "xdp"])
        }
        for process in processes { #expect([0, 69].contains(try process.wait(timeout: .seconds(60)).status)) }
        try scene.path.start()
        try scene.publish(80, to: 80)
        try scene.finish()
    }

    /// The bounds are ten times those of a release build: they find what is quadratic, not what is slow.
    @Test("Ten thousand mappings from a file")
    func tenThousand() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        let server = try scene.serve(.http, on: 80)
        let text = (0..<10_000).map { "\($0 + 20_000) \(scene.target(server.port))" }.joined(separator: "\n")
        let clock = ContinuousClock()
        let file = try clock.measure { try scene.run("map", "add", "--file", "-", input: text) }
        let one = try clock.measure { try scene.run("map", "add", "80", "\(scene.target(server.port))") }
        #expect(try scene.list("map").count == 10_001)
        #expect(Traffic.canGet(scene.published(29_999), from: scene.client))
        try scene.run("map", "flush")
        let alone = try clock.measure { try scene.run("map", "add", "80", "\(scene.target(server.port))") }
        print("benchmark: map add of 10,000 mappings \(file); of one beside them \(one); of one alone \(alone)")
        #expect(file < .seconds(10))
        #expect(alone < .milliseconds(500))
        try scene.finish()
    }
}
