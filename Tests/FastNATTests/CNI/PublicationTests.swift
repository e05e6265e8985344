import Addresses
import FastNAT
import Testing

@testable import CNI

@Suite("CNI: what is published") struct PublicationTests {
    private static func ports(_ entries: String...) -> String {
        let objects = entries.map { "{\($0)}" }.joined(separator: ", ")
        return #""runtimeConfig": {"portMappings": [\#(objects)]}"#
    }

    private static let web = ports(#""hostPort": 8080, "containerPort": 80"#)

    @Test("A port is published for each family of the container")
    func families() throws {
        #expect(try published(Self.web) == ["0.0.0.0:8080/tcp 10.1.0.2:80", "[::]:8080/tcp [fd00::2]:80"])
        #expect(try published(Self.web, of: ["10.1.0.2"]) == ["0.0.0.0:8080/tcp 10.1.0.2:80"])
        #expect(try published("", of: []).isEmpty)
        #expect(code { _ = try published(Self.web, of: []) } == .invalidConfiguration)
    }

    @Test("hostIP says where, and protocols are told in any case")
    func addresses() throws {
        let entry = #""hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "#
        #expect(try published(Self.ports(entry + #""192.0.2.1""#)) == ["192.0.2.1:53/udp 10.1.0.2:5353"])
        #expect(try published(Self.ports(entry + #""0.0.0.0""#)) == ["0.0.0.0:53/udp 10.1.0.2:5353"])
        #expect(try published(Self.ports(entry + #""""#)).count == 2)
        // A container without the family is reached across families.
        #expect(
            try published(Self.ports(entry + #""::""#), of: ["10.1.0.2"]) == ["[::]:53/udp 10.1.0.2:5353"])
    }

    @Test("Consecutive ports are one mapping, and what is twice there is there once")
    func ranges() throws {
        let entries =
            ([7003, 7001, 7000, 7002, 7002, 7010].map { #"{"hostPort": \#($0), "containerPort": \#($0 + 1)}"# }
            + [#"{"hostPort": 7004, "containerPort": 80}"#, #"{"hostPort": 65535, "containerPort": 65535}"#])
            .joined(separator: ", ")
        let mappings = try published(#""runtimeConfig": {"portMappings": [\#(entries)]}"#, of: ["10.1.0.2"])
        #expect(
            mappings == [
                "0.0.0.0:65535/tcp 10.1.0.2:65535", "0.0.0.0:7000-7003/tcp 10.1.0.2:7001-7004",
                "0.0.0.0:7004/tcp 10.1.0.2:80", "0.0.0.0:7010/tcp 10.1.0.2:7011",
            ])
    }

    @Test("portmap's conditions become allowed networks and host addresses")
    func conditions() throws {
        func conditioned(_ conditions: String) throws -> [String] {
            try published("\(Self.web), \(conditions)", of: ["10.1.0.2"])
        }
        #expect(
            try conditioned(#""conditionsV4": ["-s", "10.0.0.0/8,192.0.2.7"], "conditionsV6": ["-s", "fd00::/8"]"#)
                == ["0.0.0.0:8080/tcp 10.1.0.2:80 allow=10.0.0.0/8,192.0.2.7/32"])
        #expect(
            try conditioned(#""conditionsV4": ["!", "--source", "192.0.0.0/3"]"#)
                == ["0.0.0.0:8080/tcp 10.1.0.2:80 allow=0.0.0.0/1,128.0.0.0/2,224.0.0.0/3"])
        #expect(
            try conditioned(#""conditionsV4": ["-d", "192.0.2.1", "-s", "0.0.0.0/0"]"#)
                == ["192.0.2.1:8080/tcp 10.1.0.2:80"])
        #expect(
            try conditioned(#""conditionsV4": ["-d", "198.51.100.9,192.0.2.1"]"#)
                == ["192.0.2.1:8080/tcp 10.1.0.2:80", "198.51.100.9:8080/tcp 10.1.0.2:80"])
        #expect(try conditioned(#""conditionsV4": ["-d", "0.0.0.0/0"]"#) == ["0.0.0.0:8080/tcp 10.1.0.2:80"])
        for words in [
            #""!", "-d", "192.0.2.0/24""#, #""-d", "192.0.2.0/24""#, #""-i", "eth0""#, #""-m", "set""#,
            #""!", "-d", "0.0.0.0/0""#,
            #""!", "-s", "0.0.0.0/0""#,
            #""-s", "10.0.0.0/8", "-s", "10.1.0.0/16""#,
        ] {
            #expect(code { _ = try conditioned(#""conditionsV4": [\#(words)]"#) } == .unsupportedField, "\(words)")
        }
        for words in [#""-s", "10.0.0.1/8""#, #""-s""#, #""-s", "fd00::/8""#, "1"] {
            #expect(code { _ = try conditioned(#""conditionsV4": [\#(words)]"#) } == .invalidConfiguration, "\(words)")
        }
    }

    @Test("A refused condition is answered with what to write instead")
    func alternatives() throws {
        for (words, advice) in [
            (#""-i", "eth0""#, "name the interfaces in \"uplinks\""), (#""!", "-i", "cni0""#, "uplinks"),
            (#""-p", "tcp""#, "portMappings"), (#""-m", "set""#, "-s NETWORK,…"),
            (#""-d", "192.0.2.0/24""#, "-d ADDRESS,ADDRESS"),
        ] {
            let error = #expect(throws: CNIError.self) {
                _ = try published(#"\#(Self.web), "conditionsV4": [\#(words)]"#)
            }
            #expect(error?.message.contains(advice) == true, "\(words): \(error?.message ?? "")")
        }
    }

    @Test("Options of portmap that change nothing here are taken, and what fastnat does not do is refused")
    func portmapOptions() throws {
        let accepted =
            #""snat": false, "masqAll": false, "markMasqBit": 5, "externalSetMarkChain": "KUBE", "backend": "nftables""#
        #expect(try published("\(Self.web), \(accepted)").count == 2)
        #expect(code { _ = try published(#"\#(Self.web), "masqAll": true"#) } == .unsupportedField)
        #expect(code { _ = try published(#"\#(Self.web), "backend": "ipvs""#) } == .invalidConfiguration)
        for entry in [
            #""hostPort": 1, "containerPort": 1, "protocol": "icmp""#,
            #""hostPort": 1, "containerPort": 2, "protocol": "sctp""#,
        ] {
            #expect(code { _ = try published(Self.ports(entry)) } == .unsupportedField)
        }
        for port in ["0", "65536", "-1", #""80""#, "8.5"] {
            let entry = #""hostPort": \#(port), "containerPort": 1"#
            #expect(code { _ = try published(Self.ports(entry)) } == .invalidConfiguration, "\(port)")
        }
    }

    @Test("masquerade is true, false or an object")
    func masquerade() throws {
        func options(_ members: String) throws -> PluginOptions {
            try NetworkConfiguration(json(configuration("1.0.0", members))).options()
        }
        #expect(try options("").masquerade == nil)
        #expect(try options(#""masquerade": false"#).masquerade == nil)
        #expect(try options(#""masquerade": true"#).masquerade?.networks.isEmpty == true)
        let full = try options(
            #""masquerade": {"uplink": "eth1", "networks": ["10.244.0.0/16"], "exempt": ["10.0.0.0/8", "fd00::/8"]}"#)
        #expect(full.masquerade?.uplink == "eth1" && full.masquerade?.exempt.count == 2)
        #expect(code { _ = try options(#""masquerade": "yes""#) } == .invalidConfiguration)
        #expect(code { _ = try options(#""masquerade": {"exempt": ["x"]}"#) } == .invalidConfiguration)
    }
}
