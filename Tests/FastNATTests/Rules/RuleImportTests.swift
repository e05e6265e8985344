import Addresses
import Configuration
import FastNAT
import Foundation
import Rules
import Testing

/// Rules as tools write them, and what becomes of them. Fixtures/README.md says where they come from.
///
/// UPDATE_FIXTURES=1 in the environment writes what is expected anew.
@Suite struct RuleImportTests {
    private static let fixtures = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

    @Test(arguments: [
        "docker-20.10.save", "docker-28.save", "docker-28-iptables-nft.json", "docker-28.5.save",
        "docker-28.5-iptables-nft.json", "docker-29.json", "cni-portmap-1.1.save",
        "cni-portmap-1.6.json", "cni-portmap-1.9.json", "netavark-1.4.save", "netavark-1.17.json",
        "kube-proxy-1.20.save",
        "kube-proxy-1.20-iptables-nft.json", "kube-proxy-nftables.json",
        "by-hand.save", "by-hand-masquerade.save", "by-hand-nft.json",
    ])
    func `what is expected becomes of real rules`(fixture: String) throws {
        let bytes = try Data(contentsOf: Self.fixtures.appending(path: fixture))
        let isNft = fixture.hasSuffix(".json")
        let rules = try #require(
            isNft
                ? RuleImport(nft: Array(bytes)) { _ in "eth0" }
                : RuleImport(iptables: String(decoding: bytes, as: UTF8.self)) { _ in "eth0" })
        let name = fixture.prefix(fixture.count - 5)
        let refusals = rules.refusals.map { "\($0.place): \($0.reason)\n    \($0.rule)\n" }
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
        #expect(rules.uplink == nil && rules.refusals.map(\.place) == ["3", "4"])
    }

    @Test func `ports that lead to ports one after another are a range, for the same sources`() {
        let rules = Self.rules([
            "-p tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080",
            "-p tcp --dport 81:82 -j DNAT --to-destination 10.0.0.2:8081-8082/81",
            "-p tcp --dport 83 -j DNAT --to-destination 10.0.0.2:8082",
            "-p tcp --dport 84:85 -j DNAT --to-destination 10.0.0.2:8083",
            "-p udp --dport 86 -j DNAT --to-destination 10.0.0.2:8084",
            "-p udp --dport 87 -j DNAT --to-destination 10.0.0.3:8085",
            "-s 10.1.0.0/16 -p udp --dport 88 -j DNAT --to-destination 10.0.0.3:8086",
            "-d 192.0.2.1/32 -s 10.1.0.0/16 -p udp --dport 89 -j DNAT --to-destination 10.0.0.3:8087",
            "-p tcp --dport 92 -j DNAT --to-destination 10.0.0.2:92",
            "-p tcp --dport 91 -j DNAT --to-destination 10.0.0.2:91",
            "-p tcp --dport 90 -j DNAT --to-destination 10.0.0.2:90",
        ])
        #expect(
            rules.mappings.map(\.description) == [
                "0.0.0.0:80-82/tcp 10.0.0.2:8080-8082", "0.0.0.0:83/tcp 10.0.0.2:8082",
                "0.0.0.0:84-85/tcp 10.0.0.2:8083", "0.0.0.0:86/udp 10.0.0.2:8084", "0.0.0.0:87/udp 10.0.0.3:8085",
                "0.0.0.0:88/udp 10.0.0.3:8086 allow=10.1.0.0/16", "192.0.2.1:89/udp 10.0.0.3:8087 allow=10.1.0.0/16",
                "0.0.0.0:90-92/tcp 10.0.0.2:90-92",
            ])
    }

    @Test func `a filter that drops more than packets of no connection is named`() {
        let rules = RuleImport(
            iptables: "*filter\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n"
                + "-A FORWARD -m conntrack ! --ctstate INVALID -j DROP\n-A FORWARD -m conntrack --ctstate INVALID,NEW -j DROP\n"
        )
        #expect(rules.refusals.map(\.place) == ["3", "4"])
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
        let masquerades = try [
            Self.masquerade("172.17.0.0/16"), Self.masquerade("172.17.1.0/24", by: "eth1"),
            Self.masquerade("172.17.2.0/24", to: "192.0.2.1", exempt: ["10.0.0.0/8", "192.168.0.0/16"]),
            Self.masquerade("172.18.0.0/16", ports: "32768-60999"),
            Self.masquerade("172.19.0.0/16", to: "192.0.2.1", ports: "1024-2047", exempt: ["10.0.0.0/8"]),
            Self.masquerade("fd00:17::/64", to: "2001:db8::1", ports: "1024-2047"), Self.masquerade("::/0", by: "eth1"),
        ]
        let open = try MasqueradeRule(
            network: IPPrefix(parsing: "172.20.0.0/16"), uplink: "eth0", type: .endpointIndependent(.address))
        let text = IPFamily.allCases.map { RuleExport.iptables(mappings, masquerades + [open], $0) }.joined()
        let rules = RuleImport(iptables: text)
        #expect(Set(rules.mappings) == Set(mappings))
        #expect(Set(rules.masquerades) == Set(masquerades))
        #expect(rules.refusals == [])
        #expect(
            text.contains("# netfilter has no port that is the same for all destinations: masquerade 172.20.0.0/16"))
    }

    private static func masquerade(
        _ network: String, by uplink: String = "eth0", to source: String? = nil, ports: String? = nil,
        exempt: [String] = []
    ) throws -> MasqueradeRule {
        try MasqueradeRule(
            network: IPPrefix(parsing: network), uplink: uplink, source: source.map { try IPAddress(parsing: $0) },
            ports: ports.map { try PortRange(parsing: $0) }, exempt: exempt.map { try IPPrefix(parsing: $0) })
    }

    @Test func `a masquerade without an uplink is refused where no route leads everywhere`() {
        let rules = RuleImport(iptables: "*nat\n-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n")
        #expect(rules.masquerades.isEmpty)
        #expect(rules.refusals.first?.reason.contains("--uplink") == true)
    }

    @Test(arguments: [
        "", "{", "[]", "{\"nftables\": 1}", "{\"nftables\": [1, {}, {\"rule\": {}}, {\"chain\": null}]}",
        "{\"nftables\": [{\"chain\": {\"family\": \"ip\", \"table\": \"t\", \"name\": \"c\", \"type\": \"nat\", "
            + "\"hook\": \"prerouting\"}}, {\"rule\": {\"family\": \"ip\", \"table\": \"t\", \"chain\": \"c\", \"expr\": "
            + "[{\"match\": {}}, {\"dnat\": {\"addr\": {\"map\": {}}}}, {\"jump\": {\"target\": \"c\"}}]}}]}",
    ])
    func `nonsense for nft is no mapping, and no end`(text: String) {
        #expect(RuleImport(nft: Array(text.utf8))?.mappings.isEmpty != false)
    }

    /// A table nat with these rules of PREROUTING, or of the chain that the first word names.
    private static func rules(_ rules: [String]) -> RuleImport {
        let lines = rules.map { $0.hasPrefix("-") ? "-A PREROUTING \($0)" : "-A \($0)" }
        return RuleImport(iptables: "*nat\n:PREROUTING ACCEPT\n" + lines.joined(separator: "\n"))
    }
}
