import Addresses
import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Masquerades that belong to somebody, and how they are replaced.
@Suite struct MasqueradeOwnerTests {
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `while masquerades are replaced, every packet meets what was or what will be`(seed: UInt64) throws {
        var random = Generator(seed: seed)
        let datapath = try TestDatapath([])
        for _ in 0..<30 {
            let before = try datapath.found()
            let after = try rules(&random)
            let change = try MasqueradeChange(
                leaving: .one, with: after, among: try datapath.maps.masqueradeEntries())
            let steps = try datapath.maps.steps(of: change)
            var meanwhile: [[UInt16?]] = []
            for step in steps {
                try datapath.maps.take(step)
                meanwhile.append(try datapath.found())
            }
            let finally = try datapath.found()
            for found in meanwhile {
                for (number, port) in found.enumerated() {
                    #expect(port == before[number] || port == finally[number])
                }
            }
            #expect(Set(try datapath.networks(of: .one)) == Set(after.map(\.rule.network)))
            #expect(try datapath.maps.exemptions.keys().count == after.map(\.rule.exempt.count).reduce(0, +))
        }
    }

    /// Networks within each other, told apart by their ports.
    private func rules(_ random: inout Generator) throws -> [PlacedMasquerade] {
        try (16...32).filter { _ in Bool.random(using: &random) }.map { length in
            let port = UInt16.random(in: 2_000...2_003, using: &random) + UInt16(length) * 16
            let network = try IPPrefix(IPAddress(parsing: "172.20.0.0"), length: length)
            let exempt = Bool.random(using: &random) ? [try IPPrefix(parsing: "10.0.0.0/8")] : []
            let rule = try MasqueradeRule(network: network, uplink: "eth0", ports: PortRange(port), exempt: exempt)
            return PlacedMasquerade(rule: rule, uplink: 7, source: nil)
        }
    }

    @Test(arguments: Kind.all)
    func `a masquerade that stays keeps its flows and counters, a changed one does not`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        let other = "\(kind.family.otherTarget)"
        try datapath.replace(.one, [(kind.family.containers, 50_000), (other, 51_000)], kind.family)
        let kept = try datapath.open(Outbound(kind))
        let changed = try datapath.open(Outbound(kind).fromOther(kind.family))
        let before = try datapath.datapath.masquerades { "#\($0)" }
        try datapath.replace(.one, [(kind.family.containers, 50_000), (other, 52_000)], kind.family)
        let after = try datapath.datapath.masquerades { "#\($0)" }
        #expect(before.filter { $0.rule.ports?.first == 50_000 } == after.filter { $0.rule.ports?.first == 50_000 })
        #expect(after.first { $0.rule.ports?.first == 52_000 }?.flows == 0)
        try datapath.expectForwarded(kept, kept.request(payload: [1]))
        if kind.transport == .tcp { try datapath.expectForwarded(changed, changed.request(payload: [1])) }
        #expect(try datapath.states().count == (kind.transport == .tcp ? 2 : 1))
        try datapath.replace(.one, [], kind.family)
        #expect(try datapath.maps.masqueradeEntries().isEmpty)
    }

    @Test func `an owner's masquerades come and go beside those of others`() throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(.ipv4, network: "172.20.0.0/24")
        try datapath.replace(.one, [("172.21.0.0/24", 50_000), ("172.22.0.0/24", 50_000)], .ipv4)
        try datapath.replace(.two, [("172.23.0.0/24", 50_000)], .ipv4)
        for (taken, text) in [("172.21.0.0/24", "already by one:1"), ("172.20.0.0/24", "already: remove")] {
            let error = #expect(throws: FastNATError.self) {
                try datapath.replace(.two, [("172.24.0.0/24", 50_000), (taken, 50_000)], .ipv4)
            }
            #expect(error?.description.contains(text) == true, "\(String(describing: error))")
        }
        #expect(try datapath.networks(of: .two).map(\.description) == ["172.23.0.0/24"])
        #expect(try datapath.datapath.removeMasquerades { $0.owner == .one } == 2)
        #expect(try datapath.networks(of: nil).map(\.description) == ["172.20.0.0/24"])
        #expect(try datapath.maps.owners.keys().count == 1)
    }

    @Test func `a replacement that finds no room changes nothing`() throws {
        let datapath = try TestDatapath([])
        try datapath.replace(.one, [("172.21.0.0/24", 50_000)], .ipv4)
        let before = try datapath.maps.masqueradeEntries().map(\.id)
        let many = (0..<1_100).map { ("10.\($0 >> 8).\($0 & 255).0/24", UInt16(50_000)) }
        #expect(throws: FastNATError.self) { try datapath.replace(.one, many, .ipv4) }
        let crowd = try (0..<16_385).map { try IPPrefix(parsing: "10.\($0 >> 8).\($0 & 255).0/24") }
        let rule = try MasqueradeRule(
            network: IPPrefix(parsing: "172.22.0.0/24"), uplink: "eth0", exempt: crowd)
        #expect(throws: FastNATError.self) {
            let present = try datapath.maps.masqueradeEntries()
            let change = try MasqueradeChange(
                leaving: .one, with: [PlacedMasquerade(rule: rule, uplink: 7, source: nil)], among: present)
            try datapath.datapath.carryOut(change) {}
        }
        #expect(try datapath.maps.masqueradeEntries().map(\.id) == before)
        #expect(try datapath.maps.exemptions.keys().isEmpty)
        #expect(try datapath.maps.owners.keys() == before)
        #expect(try datapath.maps.currentSettings().has_masquerades == 1)
    }
}

extension TestDatapath {
    /// Leaves an owner with masquerades of one port each, on the uplink.
    fileprivate func replace(_ owner: MappingOwner, _ networks: [(String, UInt16)], _ family: Family) throws {
        let rules = try networks.map { text, port in
            let rule = try MasqueradeRule(
                network: IPPrefix(parsing: text), uplink: network.uplink.name, ports: PortRange(port))
            return PlacedMasquerade(rule: rule, uplink: network.uplink.index, source: nil)
        }
        let present = try maps.masqueradeEntries()
        try datapath.carryOut(MasqueradeChange(leaving: owner, with: rules, among: present)) {}
    }

    fileprivate func networks(of owner: MappingOwner?) throws -> [IPPrefix] {
        try maps.masqueradeEntries().filter { $0.owner == owner }.map(\.network)
    }

    /// What the datapath finds for an address in each network, by its port.
    fileprivate func found() throws -> [UInt16?] {
        try (16...32).map { length in
            let bit = length == 32 ? 0 : 1 << (31 - length)
            let address = IPPrefix(try IPAddress(parsing: "172.20.\(bit >> 8 & 255).\(bit & 255)"))
            return try maps.masquerades.value(masquerade_key(address))?.first_port
        }
    }
}
