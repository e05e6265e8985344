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

    func request(to port: UInt16? = nil, _ flags: Packet.TCPFlags = .syn) -> Packet {
        packet(source, Packet.Endpoint(host, port: port ?? published), flags).with {
            $0.link = (mac, "02:00:00:00:02:01")
        }
    }

    func reply(to port: UInt16) -> Packet {
        packet(
            Packet.Endpoint(kind.family.target, port: 80), Packet.Endpoint(host, port: port), [.syn, .ack]
        ).with { $0.link = (TestNetwork.targetMAC, "02:00:00:00:02:01") }
    }

    private func packet(_ from: Packet.Endpoint, _ to: Packet.Endpoint, _ flags: Packet.TCPFlags) -> Packet {
        kind.transport == .tcp ? .tcp(from: from, to: to, flags) : .udp(from: from, to: to)
    }
}

extension TestDatapath {
    /// Expects that a request and its reply arrive as they should. Returns the source port that the target sees.
    @discardableResult
    fileprivate func expectHairpin(_ hairpin: Hairpin) throws -> UInt16 {
        let (request, family) = (hairpin.request(), hairpin.kind.family)
        let outcome = try outcome(of: request.bytes, at: .tc, on: .container)
        let port = try #require(PacketView(outcome.packet).source?.port)
        let arrived = request.with {
            $0.source = Packet.Endpoint(hairpin.host, port: port)
            $0.destination = Packet.Endpoint(family.target, port: 80)
            $0.ttl -= 1
            $0.link = ("02:00:00:00:02:01", TestNetwork.targetMAC)
        }
        #expect(outcome.verdict == .redirected)
        #expect(diff(arrived.bytes, outcome.packet) == [])
        let reply = hairpin.reply(to: port)
        let returned = reply.with {
            $0.source = Packet.Endpoint(hairpin.host, port: hairpin.published)
            $0.destination = hairpin.source
            $0.ttl -= 1
            $0.link = ("02:00:00:00:02:01", hairpin.mac)
        }
        try expectForwarded(reply, as: returned, on: .container)
        return port
    }
}
