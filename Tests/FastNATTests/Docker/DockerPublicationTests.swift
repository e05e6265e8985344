import Addresses
import FastNAT
import Foundation
import Testing

@testable import Docker

/// What becomes of what the Engine API says. The fixtures are written by hand in its form, of Docker 20.10 to 28.
@Suite struct DockerPublicationTests {
    private static let fixtures = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

    private static func read<Value: Decodable>(_ name: String) throws -> [Value] {
        try JSONDecoder().decode([Value].self, from: Data(contentsOf: fixtures.appending(path: name)))
    }

    private static func publications() throws -> Publications {
        Publications(try read("containers.json"), try read("networks.json"), of: try DockerOwners())
    }

    @Test func `published ports become mappings, ranges one each, in the network of the default route`() throws {
        let mappings = try Self.publications().mappings.map { "\($0.owner) \($0.mapping)" }
        let expected = [
            "docker:a10000000000 0.0.0.0:8080/tcp 172.17.0.2:80 allow=10.0.0.0/8,192.0.2.7/32",
            "docker:a10000000000 [::]:8080/tcp 172.17.0.2:80 allow=fd00::/8",
            "docker:a20000000000 127.0.0.1:90/tcp 172.18.0.3:90",
            "docker:a20000000000 192.0.2.1:70-71/tcp 172.18.0.3:80",
            "docker:a20000000000 192.0.2.1:72/tcp 172.18.0.3:81",
            "docker:a20000000000 0.0.0.0:9000-9002/udp 172.18.0.3:9000-9002",
            "docker:a20000000000 0.0.0.0:9003/udp 172.18.0.3:9005",
            "docker:a30000000000 0.0.0.0:81/tcp 172.17.0.4:80", "docker:a30000000000 [::]:81/tcp [fd00:18::4]:80",
        ]
        #expect(mappings == expected)
    }

    @Test func `what cannot be published is left out with its reason`() throws {
        let refusals = try Self.publications().refusals.map { "\($0.subject) \($0.what): \($0.reason)" }
        #expect(refusals.count == 3)
        #expect(refusals.contains("game 0.0.0.0:7/dccp: fastnat does not know the protocol dccp"))
        #expect(refusals.contains { $0.hasPrefix("typo every port: there is no label fastnat.alow") })
        #expect(refusals.contains("lan 0.0.0.0:84/tcp: the container has no address in a bridge network of Docker's"))
    }

    @Test func `bridge networks are masqueraded unless Docker says no`() throws {
        let networks = try Self.publications().masquerades
        let asked = networks.filter(\.isAsked).map {
            "\($0.owner) \($0.name) \($0.network) \($0.source?.description ?? "-")"
        }
        #expect(
            asked == ["docker:f51430000000 bridge 172.17.0.0/16 -", "docker:f51430000000 dual 172.18.0.0/16 192.0.2.9"])
        #expect(networks.count == 5)
    }

    @Test(
        arguments: [
            ([(80, 80)], ["80>80"]), ([(81, 81), (80, 80), (82, 82)], ["80-82>80-82"]),
            ([(80, 9), (81, 9), (82, 9)], ["80-82>9"]), ([(80, 9), (81, 9), (82, 10)], ["80-81>9", "82>10"]),
            ([(80, 8), (81, 9), (82, 9)], ["80-81>8-9", "82>9"]), ([(80, 8), (82, 10)], ["80>8", "82>10"]),
            ([(80, 8), (80, 8), (81, 9)], ["80-81>8-9"]),
            ([(65_534, 65_535), (65_535, 1)], ["65534>65535", "65535>1"]), ([], []),
        ] as [([(UInt16, UInt16)], [String])])
    func `consecutive ports are merged`(ports: [(UInt16, UInt16)], runs: [String]) {
        func text(_ range: ClosedRange<UInt16>) -> String {
            range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
        }
        let merged = PortRun.merging(ports.map { PublishedPort(host: $0.0, container: $0.1) })
        #expect(merged.map { "\(text($0.host))>\(text($0.container))" } == runs)
    }

    @Test func `merged ports lead where each of them did`() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            var ports: [UInt16: UInt16] = [:]
            for _ in 0..<30 {
                let host = UInt16.random(in: 1...40, using: &random)
                ports[host] = Bool.random(using: &random) ? host + 100 : .random(in: 1...3, using: &random)
            }
            let runs = PortRun.merging(ports.map { PublishedPort(host: $0.key, container: $0.value) })
            let mappings = try runs.map {
                try PortMapping(
                    listen: Listen(ports: PortRange($0.host)),
                    target: Target(address: IPAddress(172, 17, 0, 2), ports: PortRange($0.container)))
            }
            let halved = mappings.flatMap { mapping in
                let whole = Self.owned(mapping)
                return (whole.halves ?? [whole]).map(\.mapping)
            }
            for all in [mappings, halved] {
                for host in 1...50 as ClosedRange<UInt16> {
                    #expect(all.lazy.compactMap { $0.targetPort(for: host) }.first == ports[host])
                }
            }
        }
    }

    private static func owned(_ mapping: PortMapping) -> OwnedMapping { OwnedMapping(mapping, of: .imported) }

    @Test func `labels say who may connect, and what is not understood is an error`() throws {
        let labels = try ContainerLabels([
            "other": "x", "fastnat.allow": "10.0.0.0/8", "fastnat.enable": "1", "fastnat.limit-flows": "5",
            "fastnat.limit-rate": "10/m",
        ])
        #expect(labels.isEnabled && labels.allow?.map(\.description) == ["10.0.0.0/8"])
        #expect(labels.limits.description == "limit-flows=5 limit-rate=10/m")
        for (label, text) in [
            ("allow", ""), ("allow", "10.0.0.0/8,"), ("allow", "everybody"), ("enable", "maybe"), ("limit-rate", "0"),
            ("limit-flows", "many"), ("allowed", "10.0.0.0/8"),
        ] {
            let error = #expect(throws: LabelError.self) { try ContainerLabels(["fastnat.\(label)": text]) }
            #expect(error?.description.contains("fastnat.\(label)") == true)
        }
    }

    @Test func `owners carry the name of their Docker`() throws {
        let owners = try DockerOwners("second")
        #expect(owners.owner(of: "4c01db0b339c0123456789")?.text == "second:4c01db0b339c")
        for (text, isOwn) in [("second:1", true), ("docker:1", false), ("seconds:1", false), ("file", false)] {
            let owner = try MappingOwner(text)
            #expect(owners.contains(owner) == isOwn)
        }
        #expect(throws: MappingError.self) { try DockerOwners("a b") }
    }

    @Test func `attempts are further and further apart, until one succeeds`() {
        var backoff = Backoff()
        let pauses = (0..<10).map { _ in backoff.next() }
        #expect(pauses.first == .milliseconds(100) && pauses[1] == .milliseconds(200) && pauses.last == .seconds(10))
        backoff.reset()
        #expect(backoff.next() == .milliseconds(100))
    }
}
