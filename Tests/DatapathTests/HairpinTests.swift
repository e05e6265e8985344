import FastNATTesting
import Testing

@testable import FastNAT

/// A container that comes to a published port of its own host: it is seen there under the address that it has sent to, so that
/// the reply comes back through the host (RFC 4787, REQ-9).
@Suite struct HairpinTests {
    @Test(arguments: Kind.all)
    func `a container reaches another one's published port, and its own`(kind: Kind) throws {
        let datapath = try TestDatapath()
        for (address, mac) in [
            (kind.family.otherTarget, TestNetwork.otherTargetMAC), (kind.family.target, TestNetwork.targetMAC),
        ] {
            try datapath.expectHairpin(Hairpin(kind, from: Packet.Endpoint(address, port: 41_000), mac))
        }
    }

    @Test(arguments: Kind.all)
    func `two containers with one source port are told apart`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let ports = try [
            (kind.family.otherTarget, TestNetwork.otherTargetMAC), (kind.family.target, TestNetwork.targetMAC),
        ]
        .map { try datapath.expectHairpin(Hairpin(kind, from: Packet.Endpoint($0, port: 40_000), $1)) }
        #expect(ports[0] == 40_000 && ports[1] != 40_000)
        try datapath.expectConsistent(originals: 2)
    }

    /// Its reply would have the very addresses and ports of its request.
    @Test(arguments: Kind.all)
    func `a container reaches itself from the port that it publishes under the same number`(kind: Kind) throws {
        let datapath = try TestDatapath([
            "\(kind.family.bracketed(kind.family.any)):80/\(kind.transport) \(kind.family.bracketed(kind.family.target)):80"
        ])
        let hairpin = Hairpin(
            kind, from: Packet.Endpoint(kind.family.target, port: 80), TestNetwork.targetMAC, published: 80)
        #expect(try datapath.expectHairpin(hairpin) != 80)
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Kind.all)
    func `a container reaches a port of an address that is routed to the host and not its own`(kind: Kind) throws {
        let address = kind.family.stranger
        let datapath = try TestDatapath([kind.family.mapping("8080/\(kind.transport)", to: "80", on: address)])
        let source = Packet.Endpoint(kind.family.otherTarget, port: 40_000)
        let hairpin = Hairpin(kind, from: source, TestNetwork.otherTargetMAC, host: address)
        for _ in 0..<2 {
            #expect(try datapath.expectHairpin(hairpin) == 40_000)
            try datapath.setNextHops(.stale)
        }
        try datapath.expectConsistent(originals: 1)
    }

    /// RFC 5508, REQ-7: from the receiver, or a router before it, at either end.
    @Test(arguments: Kind.all, ErrorTests.kinds)
    func `an error about a hairpin names the packet as it was sent`(kind: Kind, error: ICMPErrorKind) throws {
        let datapath = try TestDatapath()
        let router: Packet.Address = kind.family == .ipv4 ? "172.17.0.9" : "fd00:17::9"
        for (address, mac) in [
            (kind.family.otherTarget, TestNetwork.otherTargetMAC), (kind.family.target, TestNetwork.targetMAC),
        ] {
            let hairpin = Hairpin(kind, from: Packet.Endpoint(address, port: 41_000), mac)
            let port = try datapath.expectHairpin(hairpin)
            let (request, reply) = (hairpin.request(payload: [1, 2]), hairpin.reply(to: port, payload: [3, 4]))
            for sender in [kind.family.target, router] {
                try datapath.expectForwarded(
                    hairpin.error(error, from: sender, about: hairpin.arrived(request, from: port), back: reply.link),
                    as: hairpin.errorDelivered(error, about: request), on: .container)
            }
            for sender in [address, router] {
                try datapath.expectForwarded(
                    hairpin.error(error, from: sender, about: hairpin.returned(reply), back: request.link),
                    as: hairpin.errorDelivered(error, about: reply), on: .container)
            }
        }
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: Kind.all)
    func `the host itself tells a container what keeps its hairpin from going on`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let hairpin = Hairpin(
            kind, from: Packet.Endpoint(kind.family.otherTarget, port: 41_000), TestNetwork.otherTargetMAC)
        for _ in 0..<2 {  // about a first packet, and one of a known flow
            try datapath.expectReported(
                hairpin.request().with { $0.ttl = 1 }, as: .timeExceeded, from: hairpin.host, on: .container,
                counting: "ttl_expired")
            try datapath.expectReported(
                hairpin.request(payload: [UInt8](repeating: 1, count: 1_600)), as: .tooBig(mtu: 1_500),
                from: hairpin.host, on: .container, counting: "too_big")
            try datapath.expectHairpin(hairpin)
        }
    }

    @Test(arguments: Kind.all)
    func `what masquerades leaves published ports alone, and --allow holds`(kind: Kind) throws {
        let datapath = try TestDatapath([
            kind.family.mapping("8080/\(kind.transport)", to: "80"),
            kind.family.mapping(
                "8081/\(kind.transport)", to: "80", allow: [kind.family == .ipv4 ? "192.0.2.0/24" : "2001:db8:1::/64"]),
        ])
        try datapath.masquerade(kind.family)
        let hairpin = Hairpin(
            kind, from: Packet.Endpoint(kind.family.otherTarget, port: 40_000), TestNetwork.otherTargetMAC)
        try datapath.expectHairpin(hairpin)
        try datapath.expectPassed(hairpin.request(to: 8_081), on: .container, counting: "not_allowed")
        // The same port of a server outside is no published one.
        let outside = Outbound(kind).with { $0.server.port = 8_080 }
        _ = try datapath.open(outside)
    }
}

/// A container, a published port and the container behind that.
private struct Hairpin {
    let kind: Kind
    let source: Packet.Endpoint
    let mac: Packet.MAC
    let host: Packet.Address
    let published: UInt16

    init(
        _ kind: Kind, from source: Packet.Endpoint, _ mac: Packet.MAC, host: Packet.Address? = nil,
        published: UInt16 = 8_080
    ) {
        self.kind = kind
        self.source = source
        self.mac = mac
        self.host = host ?? kind.family.host
        self.published = published
    }

    func request(to port: UInt16? = nil, _ flags: Packet.TCPFlags = .syn, payload: [UInt8] = []) -> Packet {
        packet(source, Packet.Endpoint(host, port: port ?? published), flags, payload).with {
            $0.link = (mac, Self.gatewayMAC)
        }
    }

    func reply(to port: UInt16, payload: [UInt8] = []) -> Packet {
        packet(target, Packet.Endpoint(host, port: port), [.syn, .ack], payload).with {
            $0.link = (TestNetwork.targetMAC, Self.gatewayMAC)
        }
    }

    /// What the target gets of a request.
    func arrived(_ request: Packet, from port: UInt16) -> Packet {
        request.with {
            $0.source = Packet.Endpoint(host, port: port)
            $0.destination = target
            $0.ttl -= 1
            $0.link = (Self.gatewayMAC, TestNetwork.targetMAC)
        }
    }

    /// What the container gets of a reply.
    func returned(_ reply: Packet) -> Packet {
        reply.with {
            $0.source = Packet.Endpoint(host, port: published)
            $0.destination = source
            $0.ttl -= 1
            $0.link = (Self.gatewayMAC, mac)
        }
    }

    /// An error about a packet as it has arrived, on its way back.
    func error(
        _ kind: ICMPErrorKind, from sender: Packet.Address, about packet: Packet,
        back link: (source: Packet.MAC, destination: Packet.MAC)?
    ) -> Packet {
        .icmpError(from: sender, to: host, kind, about: packet, limit: 1_232).with { $0.link = link }
    }

    /// The error as whoever has sent `packet` gets it.
    func errorDelivered(_ kind: ICMPErrorKind, about packet: Packet) -> Packet {
        let link = packet.link.map { ($0.destination, $0.source) }
        let sent = packet.with { $0.ttl -= 1 }
        return .icmpError(from: host, to: packet.source?.address ?? host, kind, about: sent, limit: 1_232).with {
            $0.ttl -= 1
            $0.link = link
        }
    }

    private static let gatewayMAC: Packet.MAC = "02:00:00:00:02:01"

    private var target: Packet.Endpoint { Packet.Endpoint(kind.family.target, port: 80) }

    private func packet(
        _ from: Packet.Endpoint, _ to: Packet.Endpoint, _ flags: Packet.TCPFlags, _ payload: [UInt8]
    ) -> Packet {
        kind.transport.packet(from: from, to: to, flags, payload: payload)
    }
}

extension TestDatapath {
    /// Expects that a request and its reply arrive as they should. Returns the source port that the target sees.
    @discardableResult
    fileprivate func expectHairpin(_ hairpin: Hairpin) throws -> UInt16 {
        let request = hairpin.request()
        let outcome = try outcome(of: request.bytes, at: .tc, on: .container)
        let port = try #require(PacketView(outcome.packet).source?.port)
        #expect(outcome.verdict == .redirected)
        #expect(diff(hairpin.arrived(request, from: port).bytes, outcome.packet) == [])
        let reply = hairpin.reply(to: port)
        try expectForwarded(reply, as: hairpin.returned(reply), on: .container)
        return port
    }
}
