import FastNATTesting
import Testing

@Suite("What is not fastnat's", .enabled(if: isRoot, "needs root"))
struct CoexistenceTests {
    /// Frames from the client that fastnat has nothing to do with, in the order in which they are sent.
    private static func foreign(_ scene: Scene) throws -> [[UInt8]] {
        let (client, family) = (scene.topology.client, scene.family)
        let macs = (try client.namespace.linkAddress(of: "eth0"), try scene.host.linkAddress(of: "eth0"))
        let published = scene.published(7000)
        let source = client.endpoint(family, 41_000)
        let datagram = Packet.udp(from: source, to: published, payload: Array("foreign".utf8))
        let group: Packet.Endpoint = family == .v4 ? "224.0.0.251:7000" : "[ff02::fb]:7000"
        let groupMAC: Packet.MAC = family == .v4 ? "01:00:5e:00:00:fb" : "33:33:00:00:00:fb"
        func to(_ mac: Packet.MAC, _ packet: Packet) -> Packet { packet.with { $0.link = (macs.0, mac) } }
        let packets = [
            to(.broadcast, .arpRequest(from: client.v4, macs.0, target: scene.topology.hostAddress(.v4))),
            to(macs.1, .echoRequest(from: source.address, to: published.address, identifier: 7, sequence: 1)),
            to(macs.1, datagram.with { $0.ethernet?.vlan = 42 }),
            to(macs.1, .udp(from: source, to: scene.published(7999), payload: Array("unpublished".utf8))),
            to(macs.1, .tcp(from: source, to: published, .ack, payload: Array("mid-flow".utf8))),
            to(macs.1, .tcp(from: source, to: published, [.syn, .ack])),
            to(macs.1, .tcp(from: source, to: published, .rst)),
            to(groupMAC, .udp(from: source, to: group, payload: Array("multicast".utf8))),
            to("02:77:00:00:00:01", datagram),
            to(macs.1, datagram.with { $0.truncation = family == .v4 ? 36 : 56 }),
            to(macs.1, .raw(type: 0x88b5, payload: Array("experimental".utf8))),
            to(macs.1, datagram.with { $0.ttl = 9 }.with { $0.destination = scene.target(7) }),
        ]
        return packets.map(\.bytes)
    }

    @Test("Programs after fastnat's see foreign frames byte for byte, and none of its own", arguments: Variant.fastnat)
    func unchanged(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let servers = try [scene.serve(.udpEcho, on: 7), scene.serve(.tcpEcho, on: 7)]
        for transport in TransportProtocol.allCases { try scene.publish(7000, to: servers[0].port, transport) }
        let mirror = try Mirror(on: "eth0", of: scene.host)

        let frames = try Self.foreign(scene)
        try Traffic.inject(frames, into: "eth0", of: scene.client)
        let own = Array("own".utf8)
        #expect(try Traffic.exchangeUDP(own, with: scene.published(7000), from: scene.client) == own)
        #expect(try Traffic.exchangeTCP(own, with: scene.published(7000), from: scene.client) == own)
        try Traffic.ping(scene.published(0).address, from: scene.client)
        // What comes before this frame has been captured when this one has.
        let last = Packet.raw(type: 0x88b5, payload: Array("last".utf8)).bytes
        try Traffic.inject([last], into: "eth0", of: scene.client)
        try mirror.awaitFrames(frames + [last])
        let seen = try mirror.stop(on: "eth0")
        let places = frames.compactMap { seen.firstIndex(of: $0) }
        #expect(places == places.sorted())
        #expect(!seen.contains { $0.suffix(3) == own[...] })
        try scene.finish()
    }

    @Test("A second tcx program on the hook counts what fastnat passes", arguments: Topology.Family.allCases)
    func secondProgram(_ family: Topology.Family) throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), family)
        let counter = try PacketCounter(on: "eth0", of: scene.host)
        let server = try scene.serve(.udpEcho, on: 7)
        try scene.publish(7000, to: server.port, .udp)
        try Traffic.ping(scene.published(0).address, from: scene.client, count: 5)
        try counter.awaitCount(5)
        let pulse = try Pulse(.udp, to: scene.published(7000), from: scene.client)
        try pulse.awaitAnswers(50)
        try pulse.stop()
        #expect(try counter.stop() < 30)
        try scene.finish()
    }

    @Test("The host's own services and the client's pings work", arguments: Variant.fastnat)
    func hostServices(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try TrafficServer(.http, in: scene.host, port: 2222)
        let datagrams = try TrafficServer(.udpReport, in: scene.host, port: 2222)
        try scene.publish(8080, to: 80)
        #expect(Traffic.canGet(scene.published(server.port), from: scene.client))
        let answer = try Traffic.exchangeUDP([65], with: scene.published(datagrams.port), from: scene.client)
        #expect(String(decoding: answer, as: UTF8.self).hasPrefix("\(scene.topology.client.address(variant.family)) "))
        try Traffic.ping(scene.published(0).address, from: scene.client, count: 3, size: 4_000)
        try Traffic.ping(scene.target(0).address, from: scene.client, count: 3, size: 1_200)
        try scene.finish()
    }
}

/// A filter behind fastnat's program that copies every frame it sees to a namespace of its own, where they are captured.
private struct Mirror {
    private let namespace: NetworkNamespace
    private let capture: Capture
    private let host: NetworkNamespace

    init(on interface: String, of host: NetworkNamespace) throws {
        self.host = host
        namespace = try NetworkNamespace("mirror")
        try namespace.setSystemControl("net.ipv6.conf.all.disable_ipv6", "1")
        try host.setSystemControl("net/ipv6/conf/default/disable_ipv6", "1")
        try host.connect("mirror0", to: namespace, "eth0")
        let filter = "filter add dev \(interface) ingress protocol all prio 99 u32 match u32 0 0"
        try Self.tc("qdisc add dev \(interface) clsact", host)
        try Self.tc("\(filter) action mirred egress mirror dev mirror0", host)
        capture = try Capture("eth0", in: namespace, .received)
    }

    private static func tc(_ arguments: String, _ host: NetworkNamespace) throws {
        try host.command(["tc"] + arguments.split(separator: " ").map(String.init))
    }

    func awaitFrames(_ frames: [[UInt8]]) throws {
        var missing: [[UInt8]] = frames
        do {
            try eventually("all foreign frames behind fastnat") {
                let seen = try capture.frames()
                missing = frames.filter { !seen.contains($0) }
                return missing.isEmpty
            }
        } catch {
            Issue.record("not seen behind fastnat: \(missing.map { PacketView($0).description })")
        }
    }

    /// Removes the filter with its queueing discipline, and returns what came through it.
    func stop(on interface: String) throws -> [[UInt8]] {
        let frames = try capture.stop()
        try Self.tc("qdisc del dev \(interface) clsact", host)
        return frames
    }
}
