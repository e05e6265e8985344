import FastNATTesting
import Testing

@Suite("Bulk data", .enabled(if: isRoot, "needs root"))
struct BulkTests {
    /// Offloads on. XDP on a veth takes 64 kB packets away from its peer and so ten times as long: the full size at TC and
    /// with iptables, and once at XDP.
    @Test(
        "TCP arrives as it was sent, both ways, 200 MB",
        arguments: Variant.of([.fastnatTC], Topology.Layout.allCases)
            + Variant.of([.fastnatXDP, .iptables], [.direct], [.v4]))
    func large(_ variant: Variant) throws { try transfer(megabytes: 200, variant) }

    @Test("TCP arrives as it was sent, both ways", arguments: Variant.of([.fastnatXDP, .iptables]))
    func small(_ variant: Variant) throws { try transfer(megabytes: 20, variant) }

    private func transfer(megabytes: Int, _ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.bulk, on: 5001)
        try scene.publish(5001, to: server.port)
        for direction in Traffic.Direction.allCases {
            try Traffic.transfer(
                megabytes: megabytes, direction, with: scene.published(5001), from: scene.client)
        }
        try scene.finish()
    }

    @Test(
        "TCP arrives as it was sent where client and container cut and sum packets themselves", arguments: Variant.some)
    func wire(_ variant: Variant) throws {
        let scene = try Scene(variant) {
            $0.clientOffloads = false
            $0.containerOffloads = false
        }
        let server = try scene.serve(.bulk, on: 5001)
        try scene.publish(5001, to: server.port)
        for direction in Traffic.Direction.allCases {
            try Traffic.transfer(megabytes: 10, direction, with: scene.published(5001), from: scene.client)
        }
        try scene.finish()
    }

    @Test("UDP sent with UDP_SEGMENT arrives datagram by datagram, both ways", arguments: Variant.all)
    func segmented(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.udpSegmented, on: 443)
        try scene.publish(443, to: server.port, .udp)
        let captures = try [("eth0", Capture.Direction.received), (scene.topology.containerPort(), .received)].map {
            try Capture($0, in: scene.host, $1, filter: "udp and greater 2000")
        }
        try Traffic.exchangeSegmented(with: scene.published(443), from: scene.client)
        // Bursts came in whole, or this would test nothing. XDP on a veth takes them away from its peer.
        if variant.publisher != .fastnatXDP { try captures[0].waitFor(count: 6) }
        try captures[1].waitFor(count: 6)
        try scene.finish()
    }
}
