import FastNATTesting
import Testing

/// First packets that neither fastnat nor the kernel takes for a client's.
@Suite("Admission", .enabled(if: isRoot, "needs root"))
struct AdmissionTests {
    @Test("Spoofed, source-routed and impossible first packets do not come through", arguments: Variant.all)
    func refused(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.tcpEcho, on: 7)
        try scene.publish(7_000, to: server.port)
        let capture = try Capture("eth0", in: scene.topology.container.namespace, .received, filter: "tcp")
        let (client, host) = (scene.topology.client.address(variant.family), scene.published(0).address)
        let gateway: Packet.Address = variant.family == .v4 ? "172.20.0.1" : "fd00:20::1"
        var frames = [
            try scene.segment(from: host, 45_001), try scene.segment(from: gateway, 45_002),
            try scene.segment(from: client, 45_003, [.syn, .fin]),
            try scene.segment(from: client, 45_004, [.syn, .rst]),
        ]
        if variant.family == .v4 {
            frames += ([131, 137] as [UInt8]).map { type in
                frames[2].with {
                    $0.tcp?.flags = .syn
                    $0.ipv4?.options = [type, 7, 4, 192, 0, 2, 1, 0]
                }
            }
        }
        try Traffic.inject(
            frames.map(\.bytes) + [scene.segment(from: client, 45_009).bytes], into: "eth0", of: scene.client)
        _ = try capture.waitFor("the last") { $0.source?.port == 45_009 }
        // The kernel looks for martian sources in IPv4 alone.
        let isLax = variant.publisher == .iptables && variant.family == .v6
        let arrived = Set(try capture.frames().compactMap { PacketView($0).source?.port })
        #expect(arrived.subtracting(isLax ? [45_001, 45_002] : []) == [45_009])
        if variant.publisher.isFastnat {
            #expect(try scene.packets(notForwardedFor: "martian_source") == 2)
            #expect(try scene.packets(notForwardedFor: "source_routed") == (variant.family == .v4 ? 2 : 0))
        }
        try scene.finish()
    }

    private static let fastnatBridges = Variant.of(Publisher.fastnat, [.bridge])

    /// RFC 5382, REQ-4: a RST would end what two hosts behind NATs begin with each other at once.
    @Test("An unsolicited SYN to a container's external port is not answered", arguments: fastnatBridges)
    func unsolicited(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try TrafficServer(.http, in: scene.client, port: 80)
        try scene.run(
            "masquerade", "add", Topology.containerNetwork(variant.family), "--iface", "eth0", "--ports", "50000-50009",
            "--type", "eim", "--filter", "port")
        let client = scene.topology.client.endpoint(variant.family, server.port)
        let answer = try Traffic.get(client, from: scene.topology.container.namespace, sourcePort: 42_000)
        let port = try #require(answer.split(separator: " ").last.flatMap { UInt16($0) })
        let capture = try Capture("eth0", in: scene.client, .received, filter: "tcp")
        let frames = try [(45_001, port), (45_002, 7_001)].map { source, port in
            try scene.segment(from: client.address, source, to: port).bytes
        }
        try Traffic.inject(frames, into: "eth0", of: scene.client)
        _ = try capture.waitFor("the host's RST") { $0.destination?.port == 45_002 }
        #expect(try capture.frames().allSatisfy { PacketView($0).destination?.port != 45_001 })
        #expect(try scene.packets(notForwardedFor: "filtered") == 1)
        try scene.finish()
    }
}

extension Scene {
    /// A first segment to a port of the host, as the client's device sends it.
    fileprivate func segment(
        from address: Packet.Address, _ source: UInt16, _ flags: Packet.TCPFlags = .syn, to port: UInt16 = 7_000
    ) throws -> Packet {
        let link = (try client.linkAddress(of: "eth0"), try host.linkAddress(of: "eth0"))
        return Packet.tcp(from: Packet.Endpoint(address, port: source), to: published(port), flags).with {
            $0.link = link
        }
    }
}
