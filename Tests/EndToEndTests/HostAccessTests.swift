import FastNATTesting
import Foundation
import Testing

@Suite("From the host itself", .enabled(if: isRoot, "needs root"))
struct HostAccessTests {
    /// The kernel's NAT is asked as well: what both do is what is to be expected.
    @Test(
        "A published port of the host's addresses is reached, and the peer is who was asked for",
        arguments: Variant.of([.fastnatTC, .iptables]))
    func ownAddresses(_ variant: Variant) throws {
        let scene = try HostScene(variant)
        try scene.publish()
        try scene.expectContainer(at: [scene.published, scene.gateway])
        // An address that comes later counts, also when it has been asked for before: a second later, then.
        let (later, length) = variant.family == .v4 ? ("192.0.2.77", "24") : ("2001:db8:1::77", "64 nodad")
        let endpoint = Packet.Endpoint(try Packet.Address(later), port: HostScene.port)
        #expect(try Traffic.talk(.udpUnconnected, with: endpoint, from: scene.scene.host).answer == nil)
        try scene.scene.host.ip(["address add \(later)/\(length) dev eth0"])
        try eventually("the new address counts") {
            try Traffic.talk(.udpConnected, with: endpoint, from: scene.scene.host).answer == "container x"
        }
        try scene.expectContainer(at: [endpoint])
        try scene.scene.host.ip(["address del \(later)/\(length.prefix(2)) dev eth0"])
        try scene.unpublish()
        for use in SocketTalk.Use.allCases {
            #expect(try Traffic.talk(use, with: scene.published, from: scene.scene.host).answer == nil, "\(use)")
        }
        try scene.scene.finish()
    }

    @Test("So is it on the loopback, and at the unspecified address", arguments: Variant.of([.fastnatTC]))
    func loopback(_ variant: Variant) throws {
        let scene = try HostScene(variant)
        try scene.publish()
        let port = HostScene.port
        let addresses: [Packet.Address] = variant.family == .v4 ? ["127.0.0.1", "127.9.9.9"] : ["::1"]
        try scene.expectContainer(at: addresses.map { Packet.Endpoint($0, port: port) })
        let unspecified = Packet.Endpoint(variant.family == .v4 ? "0.0.0.0" : "::", port: port)
        for use in SocketTalk.Use.allCases {
            let talk = try Traffic.talk(use, with: unspecified, from: scene.scene.host)
            #expect(talk.answer == "container x" && talk.peers == [Packet.Endpoint(addresses[0], port: port)])
        }
        try scene.scene.finish()
    }

    @Test("A socket of IPv6 reaches an IPv4 target at IPv4-mapped addresses, and connects to it at [::1]")
    func mappedAddresses() throws {
        let scene = try HostScene(Variant(publisher: .fastnatTC, layout: .bridge, family: .v4))
        try scene.publish()
        let port = HostScene.port
        try scene.expectContainer(
            at: [
                Packet.Endpoint("::ffff:127.0.0.1", port: port), Packet.Endpoint("::ffff:192.0.2.1", port: port),
            ])
        let loopback = Packet.Endpoint("::1", port: port)
        for use in [SocketTalk.Use.tcp, .udpConnected] {
            let talk = try Traffic.talk(use, with: loopback, from: scene.scene.host)
            #expect(talk.answer == "container x" && talk.peers == [loopback], "\(talk)")
        }
        // What cannot change family, has somebody on [::1] already, or is no loopback, stays.
        #expect(try Traffic.talk(.udpUnconnected, with: loopback, from: scene.scene.host).answer == nil)
        let other = Packet.Endpoint("2001:db8:1::1", port: port)
        #expect(try Traffic.talk(.tcp, with: other, from: scene.scene.host).error == "ECONNREFUSED")
        let own = try scene.serveOwn(at: "TCP6-LISTEN:\(port),bind=[::1]")
        #expect(try Traffic.talk(.tcp, with: loopback, from: scene.scene.host).answer == "own x")
        own.terminate()
        try scene.scene.finish()
    }

    @Test("curl finds localhost", arguments: Topology.Family.allCases)
    func localhost(_ family: Topology.Family) throws {
        let scene = try Scene(Variant(publisher: .fastnatTC, layout: .bridge, family: family))
        let server = try scene.serve(.http, on: 80)
        try scene.publish(8080, to: server.port)
        #expect(try scene.host.command(["curl", "-sS", "-m", "5", "http://localhost:8080/bytes/3"]).output == "xxx")
        try scene.finish()
    }

    @Test(
        "A mapping of a loopback address is for the host alone",
        arguments: Variant.of(Publisher.fastnat, [.direct]))
    func loopbackOnly(_ variant: Variant) throws {
        let scene = try HostScene(variant)
        let port = HostScene.port
        let (loopback, source): (Packet.Endpoint, Packet.Endpoint) =
            variant.family == .v4
            ? ("127.0.0.1:\(port)", "192.0.2.2:40000") : ("[::1]:\(port)", "[2001:db8:1::2]:40000")
        for transport in TransportProtocol.allCases {
            try scene.scene.run("map", "add", "\(loopback)/\(transport)", "\(scene.scene.target(7))")
        }
        try scene.expectContainer(at: [loopback])
        #expect(try Traffic.talk(.tcp, with: scene.published, from: scene.scene.host).error == "ECONNREFUSED")
        #expect(try Traffic.talk(.tcp, with: scene.published, from: scene.scene.client).error == "ECONNREFUSED")

        // Nobody on the network can send there honestly: so by hand, to the host's own Ethernet address.
        var ethernet = Packet.Ethernet()
        ethernet.source = try scene.scene.client.linkAddress(of: "eth0")
        ethernet.destination = try scene.scene.host.linkAddress(of: "eth0")
        let capture = try Capture(
            "eth0", in: scene.scene.topology.container.namespace, .received, filter: "port 7")
        let before = try scene.scene.packets(notForwardedFor: "not_local")
        let frames = [Packet.tcp(from: source, to: loopback, .syn), Packet.udp(from: source, to: loopback)]
            .map { packet in packet.with { $0.ethernet = ethernet }.bytes }
        try Traffic.inject(frames, into: "eth0", of: scene.scene.client)
        try eventually("both packets are counted") {
            try scene.scene.packets(notForwardedFor: "not_local") == before + 2
        }
        #expect(try capture.stop().isEmpty)
        #expect(try scene.scene.run("conntrack", "count").output == "0")
        try scene.scene.finish()
    }

    @Test("What is not for a published port of this host goes where it went", arguments: Topology.Family.allCases)
    func untouched(_ family: Topology.Family) throws {
        let scene = try HostScene(Variant(publisher: .fastnatTC, layout: .bridge, family: family))
        try scene.publish()
        let port = HostScene.port
        let there = scene.scene.topology.client
        let servers = try [TrafficServer.Kind.tcpNamed("client"), .udpNamed("client")]
            .map { try TrafficServer($0, in: there.namespace, port: port) }
        let loopback = Packet.Endpoint(family == .v4 ? "127.0.0.1" : "::1", port: port)
        for use in SocketTalk.Use.allCases {
            // The published port of somebody else's address.
            let remote = there.endpoint(family, port)
            let talk = try Traffic.talk(use, with: remote, from: scene.scene.host)
            #expect(talk.answer == "client x" && talk.peers == [remote], "\(talk)")
            // Another network namespace has a loopback of its own.
            let foreign = try Traffic.talk(use, with: loopback, from: there.namespace)
            #expect(foreign.answer == "client x" && foreign.peers == [loopback], "\(foreign)")
            // The container itself, by its own address.
            let target = scene.scene.target(7)
            let direct = try Traffic.talk(use, with: target, from: scene.scene.host)
            #expect(direct.answer == "container x" && direct.peers == [target], "\(direct)")
        }
        _ = servers
        try scene.scene.finish()
    }

    @Test("A socket that cannot get to the target keeps its destination")
    func boundSockets() throws {
        let scene = try HostScene(Variant(publisher: .fastnatTC, layout: .bridge, family: .v4))
        try scene.publish()
        let port = HostScene.port
        let loopback = Packet.Endpoint("127.0.0.1", port: port)
        let host = scene.scene.host
        for use in SocketTalk.Use.allCases {
            let atLoopback = try Traffic.talk(use, with: loopback, from: host, source: "127.0.0.1:0")
            #expect(atLoopback.answer == nil, "\(use)")
            #expect(try Traffic.talk(use, with: loopback, from: host, device: "lo").answer == nil, "\(use)")
            let atAddress = try Traffic.talk(use, with: loopback, from: host, source: "192.0.2.1:0")
            #expect(atAddress.answer == "container x" && atAddress.peers == [loopback], "\(use) \(atAddress)")
        }
        try scene.scene.finish()
    }

    @Test("A program on a loopback address keeps its port from a mapping of all addresses")
    func loopbackListener() throws {
        let scene = try HostScene(Variant(publisher: .fastnatTC, layout: .bridge, family: .v4))
        let port = HostScene.port
        let own = try [
            scene.serveOwn(at: "TCP4-LISTEN:\(port),bind=127.0.0.53"),
            scene.serveOwn(at: "UDP4-RECVFROM:\(port),bind=127.0.0.53", .udp),
        ]
        try scene.publish()
        for use in SocketTalk.Use.allCases {
            let talk = try Traffic.talk(use, with: "127.0.0.53:\(port)", from: scene.scene.host)
            #expect(talk.answer == "own x", "\(use) \(talk)")
        }
        try scene.expectContainer(at: ["127.0.0.1:\(port)", scene.published])
        // A mapping that names the address is another matter.
        let arguments = ["map", "add", "127.0.0.53:\(port)", "\(scene.scene.target(7))"]
        let refused = try #require(scene.scene.fastnat).run(arguments, check: false)
        #expect(refused.status == 73 && refused.errors.contains("127.0.0.53"), "\(refused)")
        try #require(scene.scene.fastnat).run(arguments + ["--force"])
        #expect(
            try Traffic.talk(.tcp, with: "127.0.0.53:\(port)", from: scene.scene.host).answer == "container x")
        for process in own { process.terminate() }
        try scene.scene.finish()
    }

    @Test("One datagram socket talks to several published ports, and each answer is from whom it was asked of")
    func severalPeers() throws {
        let scene = try HostScene(Variant(publisher: .fastnatTC, layout: .bridge, family: .v4))
        try scene.publish()
        let second = try scene.scene.serve(.udpNamed("second"), on: 8)
        try scene.scene.publish(7100, to: second.port, .udp)
        let asked: [Packet.Endpoint] = ["127.0.0.1:\(HostScene.port)", "192.0.2.1:7100"]
        let talks = try Traffic.talk(.udpUnconnected, with: asked + asked.reversed() + asked, from: scene.scene.host)
        #expect(talks.filter { $0.answer == "container x" && $0.peers == [asked[0]] }.count == 3, "\(talks)")
        #expect(talks.filter { $0.answer == "second x" && $0.peers == [asked[1]] }.count == 3, "\(talks)")
        try scene.scene.finish()
    }

    @Test("An answer to a local client whose port is in a published range stays on the host")
    func publishedClientPort() throws {
        let scene = try HostScene(Variant(publisher: .fastnatTC, layout: .bridge, family: .v4))
        try scene.publish()
        let server = try TrafficServer(.udpNamed("own"), in: scene.scene.host, port: 9000)
        let talk = try Traffic.talk(
            .udpConnected, with: "127.0.0.1:9000", from: scene.scene.host, source: "0.0.0.0:\(HostScene.port)")
        #expect(talk.answer == "own x", "\(talk)")
        server.stop()
        try scene.scene.finish()
    }

    @Test("--allow is about the network: the host reaches its own containers anyway")
    func allow() throws {
        let scene = try Scene(Variant(publisher: .fastnatTC, layout: .bridge, family: .v4))
        let server = try scene.serve(.tcpNamed("container"), on: 7)
        try scene.run("map", "add", "7000", "\(scene.target(server.port))", "--allow", "10.0.0.0/8")
        #expect(try Traffic.talk(.tcp, with: scene.published(7000), from: scene.host).answer == "container x")
        #expect(try Traffic.talk(.tcp, with: scene.published(7000), from: scene.client).error == "ECONNREFUSED")
        try scene.finish()
    }

    @Test("Two instances: each host reaches its own container on its loopback")
    func twoInstances() throws {
        let scenes = try (0..<2).map { _ in
            try Scene(Variant(publisher: .fastnatTC, layout: .direct, family: .v4))
        }
        for (index, scene) in scenes.enumerated() {
            let server = try scene.serve(.tcpNamed("container\(index)"), on: 7)
            try scene.publish(7000, to: server.port)
            for entry in [NetworkNamespace.Entry.nsenter, .ipNetnsExec] {
                let talk = try Traffic.talk(.tcp, with: "127.0.0.1:7000", from: scene.host, via: entry)
                #expect(talk.answer == "container\(index) x")
            }
            withExtendedLifetime(server) {}
        }
        try scenes[0].finish()
        #expect(try Traffic.talk(.tcp, with: "127.0.0.1:7000", from: scenes[0].host).error == "ECONNREFUSED")
        try scenes[1].finish()
    }

    @Test("A load brings the programs up to date; status tells of them")
    func reload() throws {
        let scene = try HostScene(Variant(publisher: .fastnatTC, layout: .direct, family: .v4))
        try scene.publish()
        let before = try FastnatInstance(of: scene.scene.host)
        try scene.scene.path.start()
        let after = try FastnatInstance(of: scene.scene.host)
        #expect(before.links == after.links && before.programs.isDisjoint(with: after.programs))
        try scene.expectContainer(at: [scene.published, "127.0.0.1:\(HostScene.port)"])
        let host = try #require(try scene.scene.status()["host"] as? [String: Any])
        #expect((host["hooks"] as? [String])?.count == 8 && host["reason"] as? String == "")
        try scene.scene.finish()
    }

    /// In a process namespace of its own, process 1 is one that sees no cgroup v2.
    @Test("Without cgroup v2 fastnat is loaded all the same, and says what does not work")
    func withoutControlGroups() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let script = """
            awk '$0 ~ / - cgroup2 / { print $5 }' /proc/self/mountinfo | xargs -r -n 1 umount --lazy
            mount -t tmpfs none /run && "$0" load --iface eth0 && "$0" status --json && "$0" unload && ls /run
            """
        let result = try scene.host.command(
            ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, FastnatPath.defaultBinary])
        #expect(result.errors.contains("no cgroup v2 file system is mounted"), "\(result)")
        let status = try JSONSerialization.jsonObject(with: Data(result.outputBytes)) as? [String: Any]
        let host = try #require(status?["host"] as? [String: Any])
        #expect((host["hooks"] as? [String])?.isEmpty == true)
        #expect(host["reason"] as? String == "no cgroup v2 file system is mounted")
    }
}

/// A scene whose container answers lines and datagrams on port 7, for `HostScene.port` of the host.
private struct HostScene {
    static let port: UInt16 = 7000
    let scene: Scene
    private let servers: [TrafficServer]

    init(_ variant: Variant) throws {
        scene = try Scene(variant)
        servers = [try scene.serve(.tcpNamed("container"), on: 7), try scene.serve(.udpNamed("container"), on: 7)]
    }

    var published: Packet.Endpoint { scene.published(Self.port) }

    /// The host's address towards the container, with the published port.
    var gateway: Packet.Endpoint {
        Packet.Endpoint(scene.family == .v4 ? "172.20.0.1" : "fd00:20::1", port: Self.port)
    }

    func publish() throws {
        for transport in TransportProtocol.allCases { try scene.publish(Self.port, to: 7, transport) }
    }

    func unpublish() throws {
        for transport in TransportProtocol.allCases { try scene.unpublish(Self.port, to: 7, transport) }
    }

    /// Every kind of socket gets the container's answer there, from whom it asked.
    func expectContainer(at servers: [Packet.Endpoint], sourceLocation: SourceLocation = #_sourceLocation) throws {
        for server in servers {
            for use in SocketTalk.Use.allCases {
                let talk = try Traffic.talk(use, with: server, from: scene.host)
                #expect(
                    talk.answer == "container x" && talk.peers == [server], "\(use) \(server): \(talk)",
                    sourceLocation: sourceLocation)
            }
        }
    }

    /// A program on the host itself, by an address of socat, which answers "own x".
    func serveOwn(at address: String, _ transport: TransportProtocol = .tcp) throws -> ChildProcess {
        let process = try scene.host.spawn(["socat", "\(address),fork,reuseaddr", "SYSTEM:read line; echo own $line"])
        try scene.host.waitUntil(listening: Self.port, transport, by: process)
        return process
    }
}
