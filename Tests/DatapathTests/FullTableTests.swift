import BPF
import CDatapath
import FastNATTesting
import Glibc
import Testing

@testable import FastNAT

/// A map of the loader's that is full: what is full is named, and nothing of the mapping stays.
@Suite struct FullTableTests {
    /// Adds mappings, of which the last has no room; those before it, and the maps, must be as before.
    private func expectFull(_ new: [String], beside present: [String], _ message: String) throws {
        let datapath = try TestDatapath([])
        try datapath.add(present)
        let before = try contents(of: datapath.maps)
        let mappings = try datapath.datapath.mappings().map(\.mapping)
        let error = #expect(throws: FastNATError.self) { try datapath.add(new) }
        #expect(error?.description == message)
        #expect(try contents(of: datapath.maps) == before)
        #expect(try datapath.datapath.mappings().map(\.mapping) == mappings)
        try datapath.datapath.removeAllMappings()
        #expect(try contents(of: datapath.maps) == [0, 0, 0, 0, 0])
    }

    /// How many entries the maps of mappings have, and which kinds the settings tell of.
    private func contents(of maps: borrowing DatapathMaps) throws -> [Int] {
        let settings = try maps.currentSettings()
        return [
            try maps.mappings.entries().count, try maps.ranges.keys().count, try maps.sources.keys().count,
            Int(settings.has_ranges), Int(settings.has_addressed_mappings),
        ]
    }

    @Test func `mappings`() throws {
        let limit = Int(MAX_MAPPINGS.rawValue)
        try expectFull(
            ["9-10 172.20.0.2:80", "[2001:db8::1]:1 [fd00:20::2]:80"],
            beside: (1..<limit).map { "\($0 + 20_000) 172.20.0.2:80" },
            "there is no room for more than \(limit) mappings, with removed ones whose connections drain: remove some, or "
                + "publish ranges (one entry each)")
    }

    @Test func `addresses with ranges`() throws {
        let limit = Int(MAX_RANGE_OWNERS.rawValue)
        try expectFull(
            ["90 172.20.0.2:80", "10.9.9.9:80-81 172.20.0.2:80 allow=192.0.2.0/24"],
            beside: (0..<limit).map { "10.1.\($0 / 256).\($0 % 256):80-81 172.20.0.2:80" },
            "there is no room for ranges of more than \(limit) addresses and protocols: publish ranges without a host "
                + "address (one entry for all), or single ports")
    }

    @Test func `another range of an address that has one`() throws {
        let limit = Int(MAX_RANGE_OWNERS.rawValue)
        let datapath = try TestDatapath((0..<limit).map { "10.1.\($0 / 256).\($0 % 256):80-81 172.20.0.2:80" })
        try datapath.add(["10.1.0.7:90-91 172.20.0.2:80", "10.1.0.8:90 172.20.0.2:80"])
    }

    @Test func `allowed networks`() throws {
        let limit = Int(MAX_ALLOWED_PREFIXES.rawValue)
        let networks = (0..<limit).map { "10.\($0 / 256).\($0 % 256).0/24" }.joined(separator: ",")
        try expectFull(
            ["90 172.20.0.2:80", "91 172.20.0.2:80 allow=192.0.2.0/24"], beside: ["80 172.20.0.2:80 allow=\(networks)"],
            "there is no room for more than \(limit) networks in all allow lists together: join networks")
    }

    @Test func `interfaces that XDP redirects to: TC takes what has no room`() throws {
        var bytes = 0
        let start = fastnat_datapath_object(&bytes)
        let size = try FlowTableSize(flows: 1024)
        var image = try ObjectImage(UnsafeRawBufferPointer(start: start, count: bytes), name: "small")
        try image.setCapacity(of: "flow_index", size.buckets)
        try image.setCapacity(of: "flows", size.slots)
        try image.setCapacity(of: "flow_slots", size.slotWords)
        try image.setCapacity(of: "xdp_outputs", 1)
        try image.setConstants(layout(seed: 1, buckets: size.buckets, slotWords: size.slotWords))
        let object = try image.load()
        let maps = try DatapathMaps { name throws(BPFError) in try object.map(name) }
        let (host, container) = (try NetworkNamespace("host"), try NetworkNamespace("container"))
        for name in ["first", "second"] {
            try host.connect(name, to: container, name)
            try container.command(["ethtool", "-K", name, "gro", "on"])
        }
        try host.run { () throws(TestingError) in
            Result { () throws in
                let (first, second) = (if_nametoindex("first"), if_nametoindex("second"))
                var interfaces = try Interfaces()
                #expect(try maps.noteXDPOutput(first, &interfaces))
                #expect(try !maps.noteXDPOutput(second, &interfaces))
                #expect(try maps.xdpOutputs.keys() == [first])
            }
        }.get()
    }
}
