import FastNATTesting
import Foundation
import Testing

/// Every layout with either family.
private let variants = Topology.Layout.allCases.flatMap { layout in Topology.Family.allCases.map { (layout, $0) } }

@Suite("Topologies", .enabled(if: getuid() == 0, "needs root"))
struct TestingTopologyTests {
    @Test("Clients reach containers by routing", arguments: Topology.Layout.allCases)
    func routing(_ layout: Topology.Layout) throws {
        let topology = try Topology(layout)
        for family in Topology.Family.allCases {
            try Traffic.ping(topology.hostAddress(family), from: topology.client.namespace)
            try Traffic.ping(topology.container.address(family), from: topology.client.namespace)
        }
    }

    @Test("All options together are wired up")
    func everything() throws {
        let topology = try Topology(
            Topology.Options(.bridge).with {
                $0.clients = 2
                $0.containers = 2
                $0.hasRouter = true
                $0.hasSecondUplink = true
                $0.clientOffloads = false
            })
        #expect(topology.clients[1].v4 == "203.0.113.3")
        #expect(topology.containers[1].v6 == "fd00:20::3")
        let second = try #require(topology.secondClient)
        for family in Topology.Family.allCases {
            for client in topology.clients + [second] {
                for container in topology.containers {
                    try Traffic.ping(container.address(family), from: client.namespace)
                }
            }
            try Traffic.ping(topology.containers[1].address(family), from: topology.container.namespace)
        }
        let features = try topology.client.namespace.command(["ethtool", "-k", "eth0"]).output
        #expect(features.contains("tcp-segmentation-offload: off"))
    }

    @Test("Nothing is left of a topology")
    func cleanUp() throws {
        let topology = try Topology(.bridge)
        let server = try TrafficServer(.http, in: topology.container.namespace, port: 80)
        let paths = topology.namespaces.map(\.path)
        topology.close()
        #expect(paths.count == 3)
        #expect(!paths.contains { FileManager.default.fileExists(atPath: $0) })
        try awaitCondition("the end of the server") { !server.process.isRunning }
    }

    @Test("The kernel's frames are what the builder builds", arguments: Topology.Family.allCases)
    func kernelFrames(_ family: Topology.Family) throws {
        let topology = try Topology(Topology.Options(.direct).with { $0.clientOffloads = false })
        let server = try TrafficServer(.udpEcho, in: topology.container.namespace, port: 53)
        let capture = try Capture("eth0", in: topology.host, .received, filter: "udp")
        let destination = topology.container.endpoint(family, server.port)
        let answer = try Traffic.exchangeUDP(
            Array("kernel".utf8), with: destination, from: topology.client.namespace, sourcePort: 40_000)
        #expect(answer == Array("kernel".utf8))

        let frame = try #require(try capture.waitFor(count: 1).first)
        let (source, target) = (topology.client.namespace, topology.host)
        let (sourceMAC, targetMAC) = (try source.linkAddress(of: "eth0"), try target.linkAddress(of: "eth0"))
        let view = PacketView(frame)
        let packet = Packet.udp(
            from: topology.client.endpoint(family, 40_000), to: destination, payload: Array("kernel".utf8)
        ).with {
            $0.link = (sourceMAC, targetMAC)
            $0.ipv4?.identification = UInt16(view.number("ip.id") ?? 0)
            $0.ipv6?.flowLabel = UInt32(view["ip6.flow"]?.dropFirst(2) ?? "", radix: 16) ?? 0
        }
        expectEqualPackets(packet, frame)
        #expect(try capture.stop().count == 1)
    }

    @Test("The kernel's TCP handshake has valid checksums and decodes", arguments: Topology.Family.allCases)
    func handshake(_ family: Topology.Family) throws {
        let topology = try Topology(Topology.Options(.direct).with { $0.clientOffloads = false })
        let server = try TrafficServer(.tcpEcho, in: topology.container.namespace, port: 7)
        let capture = try Capture("eth0", in: topology.host, .received, filter: "tcp or icmp or icmp6")
        let endpoint = topology.container.endpoint(family, server.port)
        let data = [UInt8](repeating: 7, count: 10_000)
        #expect(try Traffic.exchangeTCP(data, with: endpoint, from: topology.client.namespace) == data)
        try Traffic.ping(topology.container.address(family), from: topology.client.namespace)
        let syn = try capture.waitFor("a SYN") { $0["tcp.flags"] == "syn" }
        #expect(syn.destination == endpoint)
        _ = try capture.waitFor("an echo request") { ["8", "128"].contains($0["icmp.type"]) }
        for frame in try capture.stop() { #expect(PacketView(frame).problems == []) }
    }
}

@Suite("Publishing by iptables", .enabled(if: getuid() == 0, "needs root"))
struct TestingPublishingTests {
    @Test("A published TCP port is reached, with the client's address, until it is unpublished", arguments: variants)
    func tcp(_ layout: Topology.Layout, _ family: Topology.Family) throws {
        let topology = try Topology(layout)
        let (client, container) = (topology.client, topology.container)
        let server = try TrafficServer(.http, in: container.namespace, port: 80)
        let path = IptablesPath(topology)
        let published = topology.hostEndpoint(family, 8080)
        let target = container.endpoint(family, server.port)
        try path.start()
        #expect(!Traffic.canGet(published, from: client.namespace))

        try path.publish(8080, to: target, .tcp)
        let answer = try Traffic.get(published, from: client.namespace, sourcePort: 45_000)
        #expect(answer == "\(client.address(family)) 45000")
        #expect(try Traffic.get(published, path: "/bytes/100000", from: client.namespace).count == 100_000)

        try path.unpublish(8080, to: target, .tcp)
        #expect(!Traffic.canGet(published, from: client.namespace))
        try path.stop()
    }

    @Test("A published UDP port answers from the published address", arguments: variants)
    func udp(_ layout: Topology.Layout, _ family: Topology.Family) throws {
        let topology = try Topology(layout)
        let server = try TrafficServer(.udpReport, in: topology.container.namespace, port: 53)
        let path = IptablesPath(topology, backend: layout == .direct ? .nft : .legacy)
        try path.start()
        try path.publish(5353, to: topology.container.endpoint(family, server.port), .udp)
        let answer = try Traffic.exchangeUDP(
            Array("hi".utf8), with: topology.hostEndpoint(family, 5353), from: topology.client.namespace,
            sourcePort: 45_001)
        #expect(String(decoding: answer, as: UTF8.self) == "\(topology.client.address(family)) 45001 hi")
    }

    @Test("Bulk data arrives as it was sent, both ways", arguments: variants)
    func bulk(_ layout: Topology.Layout, _ family: Topology.Family) throws {
        let topology = try Topology(layout)
        let server = try TrafficServer(.bulk, in: topology.container.namespace, port: 5001)
        let path = IptablesPath(topology)
        try path.start()
        try path.publish(5001, to: topology.container.endpoint(family, server.port), .tcp)
        for direction in Traffic.Direction.allCases {
            try Traffic.transfer(
                megabytes: 8, direction, with: topology.hostEndpoint(family, 5001), from: topology.client.namespace)
        }
    }
}
