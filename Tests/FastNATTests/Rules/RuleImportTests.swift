import Addresses
import Configuration
import FastNAT
import Foundation
import Rules
import Testing

/// Rules as tools write them, and what becomes of them. docker-20.10, cni-portmap-1.1 and netavark-1.4 are what these versions
/// wrote; docker-28 follows Docker's documentation, kube-proxy and by-hand what people know.
///
/// UPDATE_FIXTURES=1 in the environment writes what is expected anew.
@Suite struct RuleImportTests {
    private static let fixtures = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

    @Test(arguments: ["docker-20.10", "docker-28", "cni-portmap-1.1", "netavark-1.4", "kube-proxy", "by-hand"])
    func `what is expected becomes of real rules`(name: String) throws {
        let rules = RuleImport(
            iptables: try String(contentsOf: Self.fixtures.appending(path: "\(name).save"), encoding: .utf8))
        let refusals = rules.refusals.map { "\($0.line): \($0.reason)\n    \($0.rule)\n" }
        let text = Configuration.text(rules.state(of: .imported)) + refusals.joined()
        let file = Self.fixtures.appending(path: "\(name).expected")
        if ProcessInfo.processInfo.environment["UPDATE_FIXTURES"] == "1" {
            try text.write(to: file, atomically: true, encoding: .utf8)
        }
        #expect(try String(contentsOf: file, encoding: .utf8) == text)
    }

    @Test func `rules for several interfaces are refused, those for all are kept`() {
        let rules = Self.rules([
            "-i eth0 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2",
            "-i eth1 -p tcp --dport 81 -j DNAT --to-destination 10.0.0.2",
            "-p tcp --dport 82 -j DNAT --to-destination 10.0.0.2",
        ])
        #expect(rules.mappings.map(\.description) == ["0.0.0.0:82/tcp 10.0.0.2:82"])
        #expect(rules.uplink == nil && rules.refusals.map(\.line) == [3, 4])
    }

    @Test func `the same port of both families is two mappings`() {
        let v4 =
            "*nat\n-A PREROUTING -p tcp --dport 22 -j ACCEPT\n"
            + "-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2\nCOMMIT\n"
        let v6 =
            "*nat\n-A PREROUTING -p tcp --dport 22 -j DNAT --to-destination fd00::2\n"
            + "-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination fd00::2\n"
        let rules = RuleImport(iptables: v4 + v6)
        #expect(
            rules.mappings.map(\.description) == [
                "0.0.0.0:80/tcp 10.0.0.2:80", "[::]:22/tcp [fd00::2]:22", "[::]:80/tcp [fd00::2]:80",
            ])
    }

    @Test func `sources that are nested in chains are narrowed, and excluded ones lead nowhere`() {
        let rules = Self.rules(
            [
                "-s 10.0.0.0/8 -j A", "-s 192.0.2.0/24 -j B", "-p udp -j C",
            ] + [
                "A -s 10.1.0.0/16 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2",
                "B -s 10.1.0.0/16 -p tcp --dport 81 -j DNAT --to-destination 10.0.0.2",
                "C -p tcp --dport 82 -j DNAT --to-destination 10.0.0.2",
            ])
        #expect(rules.mappings.map(\.description) == ["0.0.0.0:80/tcp 10.0.0.2:80 allow=10.1.0.0/16"])
        #expect(rules.refusals.map(\.reason) == Array(repeating: "packets from outside do not come here", count: 2))
    }

    @Test(arguments: [
        "", "\n\n", "*nat\n-A\n-A PREROUTING -j\n-A PREROUTING -p\n", "-A PREROUTING -j DNAT", "\u{0}\"\\",
        "*nat\n-A PREROUTING -j PREROUTING",
    ])
    func `nonsense is no mapping, and no end`(text: String) {
        #expect(RuleImport(iptables: text).mappings.isEmpty)
    }

    @Test func `what is exported is imported as the same`() throws {
        let mappings = try [
            "192.0.2.1:80 172.17.0.2:80 allow=10.0.0.0/8,192.0.2.7", "80 172.17.0.2:8080",
            "81-90/udp 172.17.0.2:181-190",
            "91-95/udp 172.17.0.2:91-95", "96-99 172.17.0.2:7", "[::]:80 [fd00::2]:8080",
            "[2001:db8::1]:7-9/udp [fd00::2]:17-19",
            "[::]:70-79 [fd00::2]:70-79",
        ].map { try PortMapping(parsing: $0) }
        let rules = RuleImport(iptables: IPFamily.allCases.map { RuleExport.iptables(mappings, $0) }.joined())
        // The one of any address comes after the RETURN of the restricted one of an address, which no mapping says.
        let hidden = mappings[1]
        #expect(Set(rules.mappings) == Set(mappings).subtracting([hidden]))
        #expect(rules.refusals.map(\.line) == [7])
    }

    /// A table nat with these rules of PREROUTING, or of the chain that the first word names.
    private static func rules(_ rules: [String]) -> RuleImport {
        let lines = rules.map { $0.hasPrefix("-") ? "-A PREROUTING \($0)" : "-A \($0)" }
        return RuleImport(iptables: "*nat\n:PREROUTING ACCEPT\n" + lines.joined(separator: "\n"))
    }
}
