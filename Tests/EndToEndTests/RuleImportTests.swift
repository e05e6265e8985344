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
        let imported = try scene.run("import", "iptables", "-", "--apply", "--uplink", "eth0", input: saved)
        #expect(imported.output.isEmpty && imported.errors.isEmpty, "\(imported)")
        #expect(try scene.list("map").allSatisfy { $0["owner"] as? String == "import" })
        #expect(Self.answers(scene) == docker)
        #expect(try scene.run("import", "iptables", "-", "--apply", "--uplink", "eth0", input: saved).output.isEmpty)
        let masquerade = try #require(try scene.list("masquerade").first)
        #expect(masquerade["owner"] as? String == "import" && masquerade["uplink"] as? String == "eth0")
        #expect(masquerade["network"] as? String == Topology.containerNetwork(family))

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

    @Test("What is exported to iptables and to nft is accepted there, and imported as the same")
    func roundTrip() throws {
        let options = Topology.Options(.bridge).with { $0.hasSecondUplink = true }
        let scene = try Scene(.fastnatTC, options, isStarted: false)
        let file = """
            uplinks: [eth0, eth1]
            mappings:
              - {listen: 8080, target: '172.20.0.2:80'}
              - {listen: '[::]:8080', target: '[fd00:20::2]:80'}
              - {listen: '192.0.2.1:8080', target: '172.20.0.2:81', allow: [192.0.2.0/24, 10.0.0.7/32]}
              - {listen: 9000-9009/udp, target: '172.20.0.2:19000-19009'}
              - {listen: '[::]:9000-9009/udp', target: '[fd00:20::2]:19000-19009'}
              - {listen: 9010-9019, target: '172.20.0.2:9010-9019'}
              - {listen: 9020-9029, target: '172.20.0.2:7'}
            masquerade:
              - {network: 172.20.0.0/24, iface: eth0, exempt: [10.0.0.0/8, 203.0.113.0/24]}
              - {network: 172.20.0.64/26, iface: eth1, ports: 32768-60999}
              - {network: 172.20.0.0/26, iface: eth0, to: 192.0.2.1, ports: 32768-60999, exempt: [10.0.0.0/8]}
              - {network: 'fd00:20::/64', iface: eth0, exempt: [fd00::/8]}
            """
        let fastnat = try #require(scene.fastnat)
        try fastnat.run(["apply", "-f", "-"], input: file)
        let saved = try scene.run("save").output
        let rules = try [[], ["--ipv6"]].map { try fastnat.run(["export", "iptables"] + $0).output + "\n" }
        let tables = try scene.run("export", "nft").output + "\n"
        try scene.finish()

        try scene.host.command(["iptables-restore"], input: Array(rules[0].utf8))
        try scene.host.command(["ip6tables-restore"], input: Array(rules[1].utf8))
        let iptables = try scene.run("import", "iptables")
        try expectSame(iptables, saved)
        for restore in ["iptables-restore", "ip6tables-restore"] {
            try scene.host.command([restore], input: Array("*nat\nCOMMIT\n".utf8))
        }
        try scene.host.command(["nft", "-f", "-"], input: Array(tables.utf8))
        let nft = try scene.run("import", "nft")
        try expectSame(nft, saved)
    }

    /// Expects the mappings and masquerades of a saved file, in whatever order.
    private func expectSame(_ result: CommandResult, _ saved: String) throws {
        func items(_ text: String) -> Set<String> {
            let sections = text.split(separator: "mappings:\n").last.map(String.init) ?? ""
            return Set(
                sections.replacing("masquerade:\n", with: "").split(separator: "  - ").map {
                    $0.trimmingCharacters(in: .whitespacesAndNewlines)
                })
        }
        #expect(result.errors == "")
        #expect(items(result.output) == items(saved))
    }
}
