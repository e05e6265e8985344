import FastNATTesting
import Foundation
import Testing

@Suite("Configuration files", .enabled(if: isRoot, "needs root"))
struct ApplyTests {
    private static let options = Topology.Options(.bridge).with {
        $0.containers = 2
        $0.hasSecondUplink = true
    }

    @Test("apply loads, publishes, and then has nothing to do")
    func apply() throws {
        let scene = try Scene(.fastnatTC, Self.options, isStarted: false)
        let server = try scene.serve(.http, on: 80)
        let file = """
            uplinks: [eth0, eth1]
            max-flows: 2048
            timeouts: {udp: 200}
            mappings:
              - {listen: 8080, target: '\(scene.target(server.port))'}
              - {listen: 5353/udp, target: '\(scene.target(53))', allow: [192.0.2.0/24]}
            """
        #expect(try scene.apply(file, "--dry-run").split(separator: "\n").count == 6)
        try scene.expectNothingAttached()
        #expect(try scene.apply(file) == "")
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        #expect(try scene.list("map").map { $0["owner"] as? String } == ["file", "file"])
        #expect(try scene.uplinks() == ["eth0", "eth1"])

        let before = try FastnatInstance(of: scene.host)
        #expect(try scene.apply(file, "--dry-run") == "")
        #expect(try scene.apply(file, "--dry-run", "--json") == "[]")
        #expect(try scene.apply(file) == "")
        let after = try FastnatInstance(of: scene.host)
        #expect(after.programs == before.programs && after.links == before.links)
        try scene.finish()
    }

    @Test("What a file takes away goes, what it keeps goes on, and what others added stays")
    func changes() throws {
        let scene = try Scene(.fastnatTC, Self.options, isStarted: false)
        let servers = try [
            scene.serve(.tcpNamed("one"), on: 71), scene.serve(.tcpNamed("two"), on: 72, container: 1),
        ]
        try scene.apply(
            """
            uplinks: [eth0]
            timeouts: {udp: 200}
            mappings:
              - {listen: 7000, target: '\(scene.target(71))'}
              - {listen: 7001, target: '\(scene.target(71))'}
              - {listen: 7002, target: '\(scene.target(71))'}
            """)
        try scene.run("map", "add", "7003", "\(scene.target(71))", "--owner", "other")
        let (kept, changed) = (
            try Pulse(.tcp, to: scene.published(7000), from: scene.client),
            try Pulse(.tcp, to: scene.published(7001), from: scene.client)
        )
        try kept.awaitAnswers(3)
        try changed.awaitAnswers(3)

        let next = """
            uplinks: [eth1, eth0]
            timeouts: {udp: 200, tcp-closing: 100}
            mappings:
              - {listen: 7000, target: '\(scene.target(71))'}
              - {listen: 7001, target: '\(scene.target(72, container: 1))'}
            """
        let expected = """
            + uplink eth1, at TC
            ~ timeout tcp-closing: 240 s -> 100 s
            ~ mapping 0.0.0.0:7001/tcp \(scene.target(71)) -> 0.0.0.0:7001/tcp \(scene.target(72, container: 1))
            - mapping 0.0.0.0:7002/tcp \(scene.target(71))
            """
        #expect(try scene.apply(next, "--dry-run") == expected)
        try scene.apply(next)
        try kept.awaitAnswers(20)
        try changed.awaitAnswers(20)
        #expect(try kept.stop().allSatisfy { $0.hasPrefix("one ") })
        #expect(try changed.stop().allSatisfy { $0.hasPrefix("one ") })
        let new = try Pulse(.tcp, to: scene.published(7001), from: scene.client)
        try new.awaitAnswers(3)
        #expect(try new.stop().allSatisfy { $0.hasPrefix("two ") })
        #expect(try scene.list("map").map { $0["port"] as? Int } == [7000, 7001, 7003])

        try scene.apply("uplinks: [eth1]\nmappings: []")
        #expect(try scene.uplinks() == ["eth1"])
        #expect(try scene.list("map").map { $0["port"] as? Int } == [7003])
        _ = servers
        try scene.finish()
    }

    @Test("A file that is wrong changes nothing, and its place is named")
    func wrong() throws {
        let scene = try Scene(.fastnatTC, Self.options, isStarted: false)
        let target = "\(scene.target(80))"
        for (text, status, place) in [
            ("uplinks: [eth0]\nmapings: []", 65, "input:2:1: "), ("uplinks: [eth0, eth7]", 66, "input:1:17: "),
            ("mappings: []", 69, "fastnat: fastnat is not loaded"), ("uplinks: []", 69, "not loaded"),
            ("uplinks: [eth0]\nmax-flows: 5", 64, "input:2:12: "),
        ] as [(String, Int32, String)] {
            try scene.expectRefused(text, status, place)
            try scene.expectNothingAttached()
        }
        let good = "uplinks: [eth0]\ntimeouts: {udp: 200}\nmappings:\n- {listen: 80, target: '\(target)'}"
        try scene.apply(good)
        try scene.run("map", "add", "90", target, "--owner", "other")
        let server = try TrafficServer(.http, in: scene.host, port: 22)
        let saved = try scene.run("save").output
        let networks = (0...65_536).map { "10.\($0 >> 16).\($0 >> 8 & 255).\($0 & 255)" }.joined(separator: ", ")
        let other = "uplinks: [eth1]\ntimeouts: {udp: 300}\nmappings:\n"
        for (text, status, place) in [
            (other + "- {listen: 90, target: '\(target)'}", 73, "input:4:3: "),
            (other + "- {listen: 22, target: '\(target)'}", 73, "input:4:3: "),
            (other + "- {listen: 22, target: '\(target)'}", 73, "or write force: true beside it"),
            (other + "- {listen: 99, target: '10.9.9.9:1'}", 68, "input:4:3: "),
            ("max-flows: 4096", 73, "input:1:12: "),
            (other + "- {listen: 99, target: '\(target)', allow: [\(networks)]}", 73, "65536 networks"),
        ] as [(String, Int32, String)] {
            try scene.expectRefused(text, status, place)
            #expect(try scene.run("save").output == saved)
            #expect(try scene.uplinks() == ["eth0"])
        }
        try scene.apply(other + "- {listen: 22, target: '\(target)', force: true}")
        _ = server
        try scene.finish()
    }

    @Test("What is saved and applied again changes nothing", arguments: 0..<6)
    func save(_ number: Int) throws {
        let scene = try Scene(.fastnatTC, Self.options, isStarted: false)
        let server = try TrafficServer(.http, in: scene.host, port: 22)
        let mode = ["auto", "xdp", "tc"][number % 3]
        try scene.run(
            "load", "--iface", "eth0", "--mode", mode, "--udp-timeout", "\(120 + number)", "--attach",
            number % 2 == 0 ? "auto" : "clsact")
        if number > 2 { try scene.run("load", "--iface", "eth1", "--mode", "tc", "--internal", "br0") }
        for (index, arguments) in [
            ["80", "\(scene.target(80))"], ["[::]:80", "[fd00:20::2]:80"], ["22", "\(scene.target(22))", "--force"],
            ["192.0.2.1:53-60/udp", "\(scene.target(53, container: 1))-60", "--allow", "192.0.2.0/24", "10.0.0.7"],
            ["443", "\(scene.target(443))", "--owner", "docker:1"], ["444", "\(scene.target(443))", "--owner", "file"],
        ].enumerated() where (index + number) % 4 != 0 {
            try scene.run(arguments: ["map", "add"] + arguments)
        }
        for (index, arguments) in [
            ["172.20.0.0/24", "--to", "192.0.2.1", "--ports", "2000-2999", "--owner", "file"],
            ["fd00:20::/64", "--type", "eim", "--filter", "port", "--exempt", "fd00::/8"],
            ["172.20.0.0/25", "--type", "eim", "--owner", "docker:1"],
        ].enumerated() where (index + number) % 3 != 0 {
            try scene.run(arguments: ["masquerade", "add", arguments[0], "--iface", "eth0"] + arguments.dropFirst())
        }
        let before = try scene.list("map")
        let saved = try scene.run("save").output
        let adopted = try scene.apply(saved, "--dry-run").split(separator: "\n")
        #expect(adopted.allSatisfy { $0.hasSuffix("added by hand, is the file's") }, "\(adopted)\n\(saved)")
        try scene.apply(saved)
        #expect(try scene.apply(saved, "--dry-run") == "")
        #expect(try scene.run("save").output == saved)
        func withoutOwner(_ mapping: [String: Any]) -> NSDictionary {
            mapping.filter { $0.key != "owner" } as NSDictionary
        }
        #expect(try scene.list("map").map(withoutOwner) == before.map(withoutOwner))

        // From nothing, it makes the same again, but for what is of others.
        try scene.run("unload")
        try scene.apply(saved)
        let own = try scene.run("save").output
        #expect(own == saved.split(separator: "\n").filter { !$0.hasPrefix("# of ") }.joined(separator: "\n"))
        _ = server
        try scene.finish()
    }

    @Test("A masquerade that stays keeps its flows, others come, change and go with the file")
    func masquerades() throws {
        let scene = try Scene(.fastnatTC, Self.options, isStarted: false)
        let server = try TrafficServer(.udpReport, in: scene.client, port: 53)
        let head = "uplinks: [eth0]\nmappings: []\nmasquerade:\n"
        let (kept, other) = ("- {network: 172.20.0.0/24, iface: eth0}\n", "- {network: 172.20.0.128/25, iface: eth0}\n")
        #expect(try scene.apply(head + kept, "--dry-run").hasSuffix("\n+ masquerade 172.20.0.0/24 iface=eth0"))
        try scene.expectNothingAttached()
        try scene.apply(head + kept)
        let outside = scene.topology.client.endpoint(.v4, server.port)
        let pulse = try Pulse(.udp, to: outside, from: scene.topology.container.namespace)
        try pulse.awaitAnswer("the host's address") { $0.hasPrefix("192.0.2.1 ") }
        try scene.run("masquerade", "add", "172.20.0.64/26", "--iface", "eth0", "--owner", "other")

        #expect(try scene.apply(head + kept, "--dry-run") == "")
        #expect(
            try scene.apply("masquerade:\n" + kept + other, "--dry-run") == "+ masquerade 172.20.0.128/25 iface=eth0")
        try scene.apply("masquerade:\n" + kept + other)
        let changed = kept + "- {network: 172.20.0.128/25, iface: eth0, ports: 2000-2999, exempt: [10.0.0.0/8]}\n"
        #expect(
            try scene.apply("masquerade:\n" + changed, "--dry-run")
                == "~ masquerade 172.20.0.128/25 iface=eth0 -> 172.20.0.128/25 iface=eth0 ports=2000-2999 "
                + "exempt=10.0.0.0/8")
        try scene.apply("masquerade:\n" + changed)
        #expect(try scene.apply(scene.run("save").output, "--dry-run") == "")
        let listed = try scene.list("masquerade")
        #expect(listed.map { $0["owner"] as? String } == ["file", "other", "file"])
        #expect(listed.first?["flows"] as? Int == 1)
        #expect(try pulse.stop().allSatisfy { $0.hasPrefix("192.0.2.1 ") })

        try scene.expectRefused("uplinks: [eth1]\nmasquerade: []", 64, "172.20.0.64/26 is masqueraded on it")
        #expect(try scene.list("masquerade").count == 3)
        try scene.run("masquerade", "rm", "--owner", "other")
        let moved = "uplinks: [eth1]\nmasquerade:\n- {network: 172.20.0.0/24, iface: eth1}"
        #expect(try scene.apply(moved, "--dry-run").split(separator: "\n").count == 4)
        try scene.apply(moved)
        #expect(try scene.uplinks() == ["eth1"])
        try scene.apply("uplinks: [eth0]\nmasquerade: []")
        #expect(try scene.list("masquerade").isEmpty)
        #expect(try scene.uplinks() == ["eth0"])
        _ = server
        try scene.finish()
    }

    @Test("A masquerade that cannot be changes nothing, and its place is named")
    func wrongMasquerades() throws {
        let scene = try Scene(.fastnatTC, Self.options, isStarted: false)
        try scene.expectRefused(
            "uplinks: [eth0]\nmasquerade: [{network: 10.9.0.0/24, iface: eth0}]", 68, "input:2:14: ")
        try scene.expectNothingAttached()
        try scene.apply("uplinks: [eth0]\nmasquerade:\n- {network: 172.20.0.0/24, iface: eth0}")
        try scene.run("masquerade", "add", "172.20.0.64/26", "--iface", "eth0", "--owner", "other")
        let saved = try scene.run("save").output
        let head = "timeouts: {udp: 200}\nmappings:\n- {listen: 80, target: '\(scene.target(80))'}\nmasquerade:\n- "
        for (item, status, place) in [
            ("{network: 172.20.0.64/26, iface: eth0}", 73, "input:5:3: 172.20.0.64/26 is masqueraded already by other"),
            ("{network: 10.9.0.0/24, iface: eth0}", 68, "input:5:3: "),
            ("{network: 172.20.0.0/25, iface: eth0, to: 192.0.2.99}", 64, "input:5:3: "),
            ("{network: 172.20.0.0/25, iface: eth7}", 66, "input:5:35: "),
            ("{network: 172.20.0.0/25, iface: br0}", 64, "input:5:35: "),
        ] as [(String, Int32, String)] {
            try scene.expectRefused(head + item, status, place)
            #expect(try scene.run("save").output == saved)
        }
        try scene.finish()
    }

    @Test("save replaces a file whole, or leaves it")
    func saveToFile() throws {
        let scene = try Scene(.fastnatTC, Self.options)
        let directory = FileManager.default.temporaryDirectory.appending(path: "fastnat-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = directory.appending(path: "fastnat.yaml").path
        try scene.run("save", file)
        try scene.run("save", file)
        #expect(try String(contentsOfFile: file, encoding: .utf8) == scene.run("save").output + "\n")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["fastnat.yaml"])
        let result = try #require(scene.fastnat).run(["save", "/nosuch/fastnat.yaml"], check: false)
        #expect(result.status == 70 && result.errors.contains("/nosuch/fastnat.yaml"), "\(result)")
        try scene.finish()
    }
}

extension Scene {
    /// Applies a file's text; returns what it prints.
    @discardableResult
    fileprivate func apply(_ text: String, _ options: String...) throws -> String {
        try #require(fastnat).run(["apply", "-f", "-"] + options, input: text).output
    }

    fileprivate func run(arguments: [String]) throws { try #require(fastnat).run(arguments) }

    /// Expects that a file is refused, also by a dry run when that can know it.
    fileprivate func expectRefused(_ text: String, _ status: Int32, _ place: String) throws {
        let result = try #require(fastnat).run(["apply", "-f", "-"], input: text, check: false)
        #expect(result.status == status && result.errors.contains(place), "\(result.errors.prefix(500))")
    }

    /// The interfaces with a program of an uplink.
    fileprivate func uplinks() throws -> [String] {
        let programs = try #require(try status()["programs"] as? [[String: Any]])
        let uplinks = programs.filter { $0["role"] as? String == "uplink" && $0["attached"] as? Bool == true }
        return Set(uplinks.compactMap { $0["interface"] as? String }).sorted()
    }
}
