import FastNATTesting
import Testing

@Suite("On the wire", .enabled(if: isRoot, "needs root"))
struct WireTests {
    /// Client and container do their own checksums and segments, so that what is captured is what a wire would carry.
    @Test("Every packet crosses the host as through a router, but for one address and port", arguments: Variant.all)
    func fields(_ variant: Variant) throws {
        let scene = try Scene(variant) {
            $0.clientOffloads = false
            $0.containerOffloads = false
        }
        let servers = try [scene.serve(.tcpEcho, on: 7), scene.serve(.udpEcho, on: 7)]
        try scene.publish(7000, to: 7, .tcp)
        try scene.publish(7000, to: 7, .udp)
        // The container marks its replies by itself, as its own packet filter can: DSCP 26.
        let marking = ["iptables", "ip6tables"].map {
            [$0, "-t", "mangle", "-A", "OUTPUT", "-j", "TOS", "--set-tos", "0x68"]
        }
        for command in marking { try scene.topology.container.namespace.command(command) }
        let crossing = try Crossing(scene, filter: "tcp or udp")
        // DSCP 46, ECT(0); UDP once with and once without DF, and where the family allows it once without a checksum.
        try Traffic.markedExchanges(trafficClass: 0xba, with: scene.published(7000), from: scene.client)
        let (requests, replies) = try crossing.pairs(atLeast: (7, 5))

        let target = scene.target(servers[0].port)
        for pair in requests { pair.expectCrossed(source: nil, destination: target) }
        for pair in replies { pair.expectCrossed(source: scene.published(7000), destination: nil) }
        #expect(requests.contains { $0.sent["ip.tos"] == "0xba" || $0.sent["ip6.tclass"] == "0xba" })
        #expect(replies.contains { $0.received["ip.tos"] == "0x68" || $0.received["ip6.tclass"] == "0x68" })
        if variant.family == .v4 {
            #expect(requests.contains { $0.sent["ip.flags"] == "" && $0.sent["ip.id"] != "0" })
            #expect(requests.contains { $0.received["udp.checksum"] == "0x0000" })
        }
        try scene.finish()
    }
}

/// The packets of one direction, as they were sent and as they arrived.
private struct Pair {
    let sent: PacketView
    let received: PacketView

    /// One hop less, all checksums right, one end replaced; everything else is the same.
    func expectCrossed(
        source: Packet.Endpoint?, destination: Packet.Endpoint?, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(sent.problems == [] && received.problems == [], "\(received)", sourceLocation: sourceLocation)
        #expect(received.source == source ?? sent.source, sourceLocation: sourceLocation)
        #expect(received.destination == destination ?? sent.destination, sourceLocation: sourceLocation)
        #expect((received["ip.ttl"] ?? received["ip6.hops"]) == "63", sourceLocation: sourceLocation)
        let changed = ["eth.src", "eth.dst", "ip.ttl", "ip.checksum", "ip6.hops", "tcp.checksum", "udp.checksum"]
        let end = source == nil ? ["dst", "dport"] : ["src", "sport"]
        let ends = ["ip.\(end[0])", "ip6.\(end[0])", "tcp.\(end[1])", "udp.\(end[1])"]
        func rest(_ view: PacketView) -> [PacketView.Field] {
            view.fields.filter { !changed.contains($0.name) && !ends.contains($0.name) }
        }
        #expect(rest(sent) == rest(received), sourceLocation: sourceLocation)
        #expect(
            (sent["udp.checksum"] == "0x0000") == (received["udp.checksum"] == "0x0000"), sourceLocation: sourceLocation
        )
    }
}

/// Captures at the client and at the container, paired.
private struct Crossing {
    private let captures: [Capture]
    private let container: Packet.MAC
    private let client: Packet.MAC

    init(_ scene: Scene, filter: String) throws {
        let ends = [scene.client, scene.topology.container.namespace]
        (client, container) = (try ends[0].linkAddress(of: "eth0"), try ends[1].linkAddress(of: "eth0"))
        captures = try ends.flatMap { end in
            try [Capture.Direction.sent, .received].map { try Capture("eth0", in: end, $0, filter: filter) }
        }
    }

    /// Requests and replies, in the order in which they were sent; as many must arrive as were sent.
    func pairs(atLeast count: (requests: Int, replies: Int)) throws -> (requests: [Pair], replies: [Pair]) {
        var views: [[PacketView]] = []
        do {
            // tcpdump may have some to read yet.
            try eventually("as many packets that arrived as were sent") {
                views = try captures.map { try $0.frames().map { PacketView($0) } }
                return views[0].count == views[3].count && views[1].count == views[2].count
                    && views[0].count >= count.requests && views[2].count >= count.replies
            }
        } catch {
            Issue.record(
                "client sent \(views[0].count), \(views[3].count) arrived; back \(views[2].count), \(views[1].count)")
        }
        let (sent, received, answers, arrived) = (views[0], views[1], views[2], views[3])
        #expect(arrived.allSatisfy { $0["eth.dst"] == container.description })
        #expect(received.allSatisfy { $0["eth.dst"] == client.description })
        return (zip(sent, arrived).map(Pair.init), zip(answers, received).map(Pair.init))
    }
}
