import FastNATTesting
import Testing

/// The kernel has no SCTP sockets everywhere: both ends are made by hand. Its NAT has SCTP, and shows what is to be expected.
@Suite("SCTP", .enabled(if: isRoot, "needs root"))
struct SCTPTests {
    @Test("An association through a published port, from its beginning to its end", arguments: Variant.all)
    func published(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try scene.publish(9_000, to: 9_000, .sctp)
        let ends = try AssociationEnds(scene, port: 9_000)
        let (client, target) = (scene.topology.client.endpoint(scene.family, 45_000), scene.target(9_000))
        for step in AssociationEnds.life {
            let arrived = try ends.send(step, from: client, to: scene.published(9_000), answeredBy: target)
            #expect(arrived.problems == [], "\(step) \(arrived)")
            #expect(arrived.source == (step.isRequest ? client : scene.published(9_000)), "\(step)")
            #expect(arrived.destination == (step.isRequest ? target : client), "\(step)")
            #expect((arrived["ip.ttl"] ?? arrived["ip6.hops"]) == "63", "\(step)")
            if step.chunk == .initiate {  // nobody has a protocol of this number there
                try ends.awaitError(about: client, to: scene.published(9_000))
            }
        }
        if scene.fastnat != nil {
            let flows = try scene.list("conntrack")
            #expect(flows.map { $0["protocol"] as? String } == ["sctp"])
            #expect(flows.map { $0["state"] as? String } == ["closing"])
        }
        try scene.finish()
    }

    @Test(
        "A container's association to the outside has the host's address and its own port",
        arguments: Variant.of(Publisher.allCases, [.bridge]))
    func masqueraded(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try (scene.path as any MasqueradingPath).masquerade(scene.family)
        let ends = try AssociationEnds(scene, port: 9_000)
        let (container, server) = (scene.target(45_000), scene.topology.client.endpoint(scene.family, 9_000))
        let external = scene.published(45_000)
        for step in AssociationEnds.life {
            let arrived = try ends.send(step.reversed, from: server, to: external, answeredBy: container, peer: server)
            #expect(arrived.problems == [], "\(step) \(arrived)")
            #expect(arrived.source == (step.isRequest ? external : server), "\(step)")
            #expect(arrived.destination == (step.isRequest ? server : container), "\(step)")
        }
        try scene.finish()
    }

    @Test("Mappings that would need another CRC32c are refused, with what to do")
    func refused() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        for (mapping, reason) in [
            (["9000/sctp", "172.20.0.2:9001"], "let the program listen on 9000, or publish 9001"),
            (["9000-9009/sctp", "172.20.0.2:9000"], "from 9000-9009 to 9000"),
            (["[::]:9000/sctp", "172.20.0.2:9000"], "between IPv4 and IPv6"),
        ] {
            let result = try fastnat.run(["map", "add"] + mapping, check: false)
            #expect(result.status == 64 && result.errors.contains(reason), "\(result.errors)")
        }
        try scene.finish()
    }
}

/// A client and a container that send SCTP packets made by hand, and see what arrives.
private final class AssociationEnds {
    /// A packet of an association: who sends it, and what it says.
    struct Step: CustomStringConvertible {
        let isRequest: Bool
        let chunk: Packet.SCTPChunk
        var payload: [UInt8] = []
        /// The first sender is the container.
        var isOutbound = false

        var description: String { "\(chunk) \(isRequest ? "there" : "back")" }
        var reversed: Step {
            Step(isRequest: isRequest, chunk: chunk, payload: payload, isOutbound: true)
        }
        /// Each side has chosen a tag, which the other's packets have.
        var tag: UInt32 { isRequest ? 0x0b0b_0b0b : 0x0a0a_0a0a }
    }

    /// INIT has a tag for the other side's packets, a window, two numbers of streams, and a first number; its answer the same and
    /// a cookie.
    static let life: [Step] = [
        Step(isRequest: true, chunk: .initiate, payload: [10, 10, 10, 10, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]),
        Step(
            isRequest: false, chunk: .initiateAck,
            payload: [11, 11, 11, 11, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 7, 0, 8, 1, 2, 3, 4]),
        Step(isRequest: true, chunk: .cookieEcho, payload: [1, 2, 3, 4]),
        Step(isRequest: false, chunk: .cookieAck),
        Step(isRequest: true, chunk: .data, payload: [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0] + Array("hello".utf8)),
        Step(isRequest: false, chunk: .data, payload: [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0] + Array("world!".utf8)),
        Step(isRequest: false, chunk: .heartbeat, payload: [0, 1, 0, 8, 1, 2, 3, 4]),
        Step(isRequest: true, chunk: .shutdown, payload: [0, 0, 0, 1]),
        Step(isRequest: false, chunk: .shutdownAck),
        Step(isRequest: true, chunk: .shutdownComplete),
    ]

    private let scene: Scene
    private let clientSees: Capture
    private let containerSees: Capture
    private let errors: Capture
    private let links: (client: (Packet.MAC, Packet.MAC), container: (Packet.MAC, Packet.MAC))

    init(_ scene: Scene, port: UInt16) throws {
        self.scene = scene
        let container = scene.topology.container.namespace
        clientSees = try Capture("eth0", in: scene.client, .received, filter: "sctp")
        containerSees = try Capture("eth0", in: container, .received, filter: "sctp")
        errors = try Capture("eth0", in: scene.client, .received, filter: "icmp or icmp6")
        links = (
            (try scene.client.linkAddress(of: "eth0"), try scene.host.linkAddress(of: "eth0")),
            (
                try container.linkAddress(of: "eth0"),
                try scene.host.linkAddress(of: scene.topology.containerInterface)
            )
        )
        // Neighbours are known before the first packet, which no socket sends again.
        try Traffic.ping(scene.published(port).address, from: scene.client)
        try Traffic.ping(scene.family == .v4 ? "172.20.0.1" : "fd00:20::1", from: container)
    }

    /// Sends a packet, and returns it as it arrives. `outside` is the client's end, `published` what it talks to, `inside` the
    /// container's end, which talks to `outside` or, when that is told, to `peer`.
    func send(
        _ step: Step, from outside: Packet.Endpoint, to published: Packet.Endpoint,
        answeredBy inside: Packet.Endpoint, peer: Packet.Endpoint? = nil
    ) throws -> PacketView {
        let isFromClient = step.isRequest != step.isOutbound
        let packet: Packet =
            isFromClient
            ? .sctp(from: outside, to: published, step.chunk, tag: step.tag, payload: step.payload)
            : .sctp(from: inside, to: peer ?? outside, step.chunk, tag: step.tag, payload: step.payload)
        let frame = packet.with { $0.link = isFromClient ? links.client : links.container }
        let receiver = isFromClient ? containerSees : clientSees
        let before = try receiver.frames().count
        try Traffic.inject(
            [frame.bytes], into: "eth0", of: isFromClient ? scene.client : scene.topology.container.namespace)
        let arrived = try receiver.waitFor(count: before + 1)
        return PacketView(arrived[before])
    }

    /// Waits for the ICMP error about a packet, which quotes it as its sender has sent it.
    func awaitError(about client: Packet.Endpoint, to published: Packet.Endpoint) throws {
        _ = try errors.waitFor("an ICMP error about the packet") {
            ($0["inner.ip.dst"] ?? $0["inner.ip6.dst"]) == published.address.description
                && $0["inner.sctp.dport"] == "\(published.port)" && $0["inner.sctp.sport"] == "\(client.port)"
        }
    }
}
