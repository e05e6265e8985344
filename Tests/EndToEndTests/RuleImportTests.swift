import FastNATTesting
import Foundation
import Testing

@Suite("Rules of other packet filters", .enabled(if: isRoot, "needs root"))
struct RuleImportTests {
    /// What Docker writes, on the topology's addresses.
    private static func rules(_ scene: Scene) -> String {
        let (one, two) = (scene.target(0).address, scene.target(0, container: 1).address)
        let (isIPv4, host) = (scene.family == .v4, scene.published(0).address)
        func target(_ address: Packet.Address, _ port: String) -> String {
            isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
        }
        let length = isIPv4 ? 32 : 128
        let client = "\(scene.topology.client.address(scene.family))/\(length)"
        return """
            *nat
            :DOCKER - [0:0]
            -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
            -A POSTROUTING -s \(Topology.containerNetwork(scene.family)) ! -o br0 -j MASQUERADE
            -A DOCKER -i br0 -j RETURN
            -A DOCKER ! -i br0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination \(target(one, "71"))
            -A DOCKER -d \(host)/\(length) ! -i br0 -p udp -m udp --dport 5353 -j DNAT --to-destination \(target(two, "72"))
            -A DOCKER -s \(client) ! -i br0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination \(target(one, "71"))
            -A DOCKER -s 10.0.0.0/8 ! -i br0 -p tcp -m tcp --dport 8082 -j DNAT --to-destination \(target(one, "71"))
            -A DOCKER ! -i br0 -p udp -m udp --dport 20000:20009 -j DNAT --to-destination \(target(two, "70-79/20000"))
            COMMIT

            """.replacingOccurrences(of: "10.0.0.0/8", with: isIPv4 ? "10.0.0.0/8" : "fd99::/16")
    }

    /// Who answers on each port; nil where nobody does.
    private static func answers(_ scene: Scene) -> [String: String] {
        var answers: [String: String] = [:]
        for (port, transport) in [
            (8080, .tcp), (8081, .tcp), (8082, .tcp), (71, .tcp), (5353, .udp), (20_002, .udp), (20_010, .udp),
        ] as [(UInt16, TransportProtocol)] {
            guard let pulse = try? Pulse(transport, to: scene.published(port), from: scene.client),
                let first = try? pulse.stop().first, first.hasPrefix("one") || first.hasPrefix("two")
            else { continue }
            answers["\(port)"] = String(first.prefix(3))
        }
        return answers
    }

    @Test(
        "Docker's rules, what is imported of them, and what is exported of that behave alike",
        arguments: Topology.Family.allCases)
    func alike(_ family: Topology.Family) throws {
        let options = Topology.Options(.bridge).with { $0.containers = 2 }
        let scene = try Scene(.fastnatTC, options, family, isStarted: false)
        let servers = try [scene.serve(.tcpNamed("one"), on: 71), scene.serve(.udpNamed("two"), on: 72, container: 1)]
        let restore = family == .v4 ? "iptables-restore" : "ip6tables-restore"
        let rules = Self.rules(scene)
        try scene.host.command([restore], input: Array(rules.utf8))
        let docker = Self.answers(scene)
        #expect(docker == ["8080": "one", "8081": "one", "5353": "two", "20002": "two"])
        let saved = try scene.host.command([family == .v4 ? "iptables-save" : "ip6tables-save"]).output
        try scene.host.command([restore], input: Array("*nat\nCOMMIT\n".utf8))
        #expect(Self.answers(scene).isEmpty)

        try scene.path.start()
        let imported = try scene.run("import", "iptables", "-", "--apply", input: saved)
        #expect(imported.output.isEmpty && imported.errors.split(separator: "\n").count == 1, "\(imported)")
        #expect(try scene.list("map").allSatisfy { $0["owner"] as? String == "import" })
        #expect(Self.answers(scene) == docker)
        #expect(try scene.run("import", "iptables", "-", "--apply", input: saved).output.isEmpty)

        let arguments = ["export", "iptables"] + (family == .v4 ? [] : ["--ipv6"])
        let exported = try #require(scene.fastnat).run(arguments).output
        let tables = try scene.run("export", "nft").output
        try scene.finish()
        try scene.host.command([restore, "--noflush"], input: Array((exported + "\n").utf8))
        #expect(Self.answers(scene) == docker)
        try scene.host.command([restore], input: Array("*nat\nCOMMIT\n".utf8))
        try scene.host.command(["nft", "-f", "-"], input: Array((tables + "\n").utf8))
        #expect(Self.answers(scene) == docker)
        _ = servers
    }
}
