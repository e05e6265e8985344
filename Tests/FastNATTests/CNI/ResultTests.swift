import Addresses
import FastNAT
import Testing

@testable import CNI

@Suite("CNI: results and owners") struct ResultTests {
    private static let latest = #"""
        {"cniVersion": "1.1.0", "other": {"é": "\\\"", "n": [18446744073709551615, -7, 0.1, 12.50, true, null]},
         "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/x", "mtu": 1500, "pciID": "a", "socketPath": "b"}],
         "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 0}, {"address": "fd00::2/64"}],
         "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1, "priority": 2, "table": 3, "scope": 4}]}
        """#
    private static let earliest = #"""
        {"cniVersion": "0.3.0", "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/x"}],
         "other": {"é": "\\\"", "n": [18446744073709551615, -7, 0.1, 12.50, true, null]},
         "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 0, "version": "4"},
                 {"address": "fd00::2/64", "version": "6"}],
         "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]}
        """#

    @Test("What nobody knows comes out as it went in")
    func passthrough() throws {
        for text in [Self.latest, Self.earliest] {
            let value = try json(text)
            #expect(try json(value.text()) == value)
            let version = try #require(value["cniVersion"]?.string.flatMap(SpecificationVersion.init))
            #expect(try AttachmentResult(value, in: version).value == value)
        }
        #expect(
            try json("[0.1, 12.50, 18446744073709551615, 1e3, 1.0]").text() == "[0.1,12.5,18446744073709551615,1000,1]")
    }

    @Test("A result becomes one of another version", arguments: SpecificationVersion.allCases)
    func conversion(_ version: SpecificationVersion) throws {
        let down = try AttachmentResult(json(Self.latest), in: version).value
        let first = try #require(down["ips"]?.array?.first)
        #expect(down["cniVersion"]?.string == version.rawValue)
        #expect(first["version"]?.string == (version < .v1_0_0 ? "4" : nil))
        #expect((down["interfaces"]?.array?.first?["mtu"] == nil) == (version < .v1_1_0))
        #expect((down["routes"]?.array?.first?["table"] == nil) == (version < .v1_1_0))
        if version == .v0_3_0 { #expect(down == (try json(Self.earliest))) }
        let up = try AttachmentResult(json(Self.earliest), in: version).value
        #expect(up["ips"]?.array?.last?["version"]?.string == (version < .v1_0_0 ? "6" : nil))
        #expect(up["routes"] == (try json(Self.earliest))["routes"])
    }

    @Test("A result of an unknown version is refused")
    func unknown() throws {
        #expect(
            code { _ = try AttachmentResult(json(#"{"cniVersion": "0.2.0"}"#), in: .v1_0_0) } == .incompatibleVersion)
    }

    @Test("The container's addresses are those of its interface, one of each family")
    func addresses() throws {
        let result = try AttachmentResult(
            json(
                #"""
                {"interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/x"}, {"name": "eth1", "sandbox": "/x"}],
                 "ips": [{"address": "10.9.0.1/24", "interface": 0}, {"address": "10.1.0.2/24", "interface": 1},
                         {"address": "10.1.0.3/24", "interface": 1}, {"address": "fe80::1/64", "interface": 1},
                         {"address": "fd00::2/64", "interface": 1}, {"address": "10.2.0.2/32", "interface": 2}]}
                """#), in: .v1_0_0)
        let found = try result.addresses(on: "eth0")
        #expect(found.map(\.address.description) == ["10.1.0.2", "fd00::2"])
        #expect(found.map(\.network.description) == ["10.1.0.0/24", "fd00::/64"])
        #expect(try result.addresses(on: "eth1").map(\.network.description) == ["10.2.0.2/32"])
        #expect(try result.addresses(on: "eth2").isEmpty)
    }

    @Test("Owners name network, container and interface, and long names stay different and short enough")
    func owners() throws {
        func owner(_ container: String, _ network: String) throws -> MappingOwner {
            try MappingOwner(
                #require(NetworkAttachment(container: container, interface: "fifteen-letters")), in: network)
        }
        #expect(try owner("c1", "net").text == "cni:net/c1/fifteen-letters")
        let (id, other) = (String(repeating: "a", count: 300), String(repeating: "a", count: 299) + "b")
        let longest = try owner(id, id)
        #expect(longest.text.utf8.count == 255)
        #expect(try owner(other, id) != longest && owner(id, other) != longest && owner(id, id) == longest)
        #expect(longest.isAttached(to: id) && !longest.isAttached(to: other))
        #expect(try !owner("c", "network").isAttached(to: "net"))
        let whole = String(repeating: "f", count: 64)
        #expect(try owner(whole, "net").text.contains("/\(whole)/"))
    }
}
