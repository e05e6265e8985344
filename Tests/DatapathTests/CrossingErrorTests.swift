import FastNATTesting
import Testing

@testable import FastNAT

/// ICMP errors about flows between IPv4 and IPv6: they cross, and so does what they quote (RFC 7915).
@Suite struct CrossingErrorTests {
    /// Type, code and the word behind the checksum.
    typealias Message = (type: UInt8, code: UInt8, rest: UInt32)

    /// ICMPv4 errors and what they are in ICMPv6; nil: nothing (RFC 7915, 4.2).
    static let toIPv6: [(Message, Message?)] = [
        ((3, 0, 0), (1, 0, 0)), ((3, 1, 0), (1, 0, 0)), ((3, 2, 0), (4, 1, 6)), ((3, 3, 0), (1, 4, 0)),
        ((3, 4, 1_400), (2, 0, 1_420)), ((3, 4, 0), (2, 0, 1_280)), ((3, 4, 600), (2, 0, 1_280)),
        ((3, 4, 9_000), (2, 0, 1_500)), ((3, 5, 0), (1, 0, 0)), ((3, 9, 0), (1, 1, 0)), ((3, 10, 0), (1, 1, 0)),
        ((3, 12, 0), (1, 0, 0)), ((3, 13, 0), (1, 1, 0)), ((3, 14, 0), nil), ((3, 15, 0), (1, 1, 0)), ((3, 16, 0), nil),
        ((11, 0, 0), (3, 0, 0)), ((11, 1, 0), (3, 1, 0)), ((12, 0, 8 << 24), (4, 0, 7)), ((12, 0, 9 << 24), (4, 0, 6)),
        ((12, 0, 1 << 24), (4, 0, 1)), ((12, 2, 2 << 24), (4, 0, 4)), ((12, 0, 13 << 24), (4, 0, 8)),
        ((12, 0, 16 << 24), (4, 0, 24)), ((12, 0, 4 << 24), nil), ((12, 1, 0), nil),
    ]

    /// The reverse (5.2).
    static let toIPv4: [(Message, Message?)] = [
        ((1, 0, 0), (3, 1, 0)), ((1, 1, 0), (3, 10, 0)), ((1, 2, 0), (3, 1, 0)), ((1, 3, 0), (3, 1, 0)),
        ((1, 4, 0), (3, 3, 0)), ((1, 5, 0), nil), ((2, 0, 1_400), (3, 4, 1_380)), ((2, 0, 9_000), (3, 4, 1_500)),
        ((2, 0, 100_000), (3, 4, 1_500)), ((2, 0, 1_000), (3, 4, 1_260)), ((3, 0, 0), (11, 0, 0)),
        ((3, 1, 0), (11, 1, 0)), ((4, 0, 1), (12, 0, 1 << 24)), ((4, 0, 4), (12, 0, 2 << 24)),
        ((4, 0, 6), (12, 0, 9 << 24)), ((4, 0, 7), (12, 0, 8 << 24)), ((4, 0, 20), (12, 0, 12 << 24)),
        ((4, 0, 24), (12, 0, 16 << 24)), ((4, 0, 2), nil), ((4, 0, 40), nil), ((4, 1, 6), (3, 2, 0)), ((4, 2, 0), nil),
    ]

    let datapath: TestDatapath

    init() throws {
        datapath = try TestDatapath(
            Transport.allCases.flatMap {
                ["[::]:8080/\($0) \(Family.ipv4.target):80", "0.0.0.0:8080/\($0) [\(Family.ipv6.target)]:80"]
            })
    }

    @Test(arguments: Kind.all)
    func `each kind of error has its counterpart, or is dropped`(kind: Kind) throws {
        let crossing = try open(kind)
        let (outside, inside) = kind.family == .ipv4 ? (Self.toIPv6, Self.toIPv4) : (Self.toIPv4, Self.toIPv6)
        for (message, expected) in outside { try expectCrossed(crossing, message, expected, on: .uplink) }
        for (message, expected) in inside { try expectCrossed(crossing, message, expected, on: .container) }
        #expect(try datapath.states() == [kind.transport == .tcp ? .established : .replied])
    }

    @Test(arguments: Kind.all, [Side.uplink, .container])
    func `as much is quoted as there was, up to what an error may have`(kind: Kind, side: Side) throws {
        let crossing = try open(kind)
        let header = (side == .uplink ? kind.family : crossing.other).headerLength
        for limit in [header + 8, header + 18, header + 20, 500, 548, 600, 1_232] {
            try expectCrossed(crossing, crossing.expired(side), crossing.expired(side.opposite), on: side, limit: limit)
        }
        // Extensions (RFC 4884) stay behind: of 1,000 bytes 128 are the packet.
        var message = crossing.expired(side)
        message.rest = crossing.family(side) == .ipv4 ? 32 << 16 : 16 << 24
        try expectCrossed(
            crossing, message, crossing.expired(side.opposite), on: side, limit: 128,
            extensions: [UInt8](repeating: 0x20, count: 872))
    }

    @Test(arguments: Kind.all, [Side.uplink, .container])
    func `what is unsound or has come too far is dropped`(kind: Kind, side: Side) throws {
        let crossing = try open(kind)
        let error = crossing.error(crossing.expired(side), on: side)
        try datapath.expectDropped(error.with { $0.icmp?.checksum = .offBy(1) }, on: side, counting: "bad_error")
        try datapath.expectDropped(error.with { $0.ttl = 1 }, on: side, counting: "ttl_expired")
    }

    private func open(_ kind: Kind) throws -> Crossing {
        let crossing = Crossing(kind)
        var packets: [(Packet, Side)] = [
            (crossing.outside.request(.syn), .uplink), (crossing.inside.reply([.syn, .ack]), .container),
        ]
        if kind.transport == .tcp { packets.append((crossing.outside.request(), .uplink)) }
        for (packet, side) in packets {
            #expect(try datapath.outcome(of: packet.bytes, at: .tc, on: side).verdict == .redirected)
        }
        return crossing
    }

    /// Expects that an error becomes another one, which names the packet as it was sent.
    private func expectCrossed(
        _ crossing: Crossing, _ message: Message, _ expected: Message?, on side: Side, limit: Int = 1_232,
        extensions: [UInt8] = [], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let error = crossing.error(message, on: side, limit: limit).with { $0.payload += extensions }
        guard let expected else {
            return try datapath.expectDropped(
                error, on: side, counting: "untranslatable", sourceLocation: sourceLocation)
        }
        let outcome = try datapath.outcome(of: error.bytes, at: .tc, on: side)
        #expect(outcome.verdict == .redirected, sourceLocation: sourceLocation)
        #expect(outcome.counted == [:], sourceLocation: sourceLocation)
        // Identifications that fastnat has given are any; the length is of the whole packet.
        let wanted = crossing.translated(expected, on: side, limit: limit) { number in
            let place = (number == 0 ? 14 : 14 + 20 + 8) + 4
            return UInt16(outcome.packet[place]) << 8 | UInt16(outcome.packet[place + 1])
        }
        #expect(diff(wanted.bytes, outcome.packet) == [], "\(message)", sourceLocation: sourceLocation)
    }
}

extension Side {
    fileprivate var opposite: Side { self == .uplink ? .container : .uplink }
}

/// A conversation across families, as its client and as its target have it.
private struct Crossing {
    let kind: Kind
    let outside: Conversation
    let inside: Conversation
    let other: Family

    init(_ kind: Kind) {
        self.kind = kind
        let other: Family = kind.family == .ipv4 ? .ipv6 : .ipv4
        self.other = other
        outside = Conversation(kind)
        inside = outside.with {
            $0.client = Packet.Endpoint(other.gateway, port: $0.client.port)
            $0.target = Packet.Endpoint(other.target, port: 80)
        }
    }

    func family(_ side: Side) -> Family { side == .uplink ? kind.family : other }

    /// Time exceeded, in the family of a side.
    func expired(_ side: Side) -> CrossingErrorTests.Message {
        family(side) == .ipv4 ? (11, 0, 0) : (3, 0, 0)
    }

    private static let payload = (0..<1_000).map { UInt8($0 & 0xff) }

    /// What the error is about, as it was sent on the other side; one hop less is left.
    private func sent(toward side: Side) -> Packet {
        let packet = side == .uplink ? inside.reply(payload: Self.payload) : outside.request(payload: Self.payload)
        return packet.with { $0.ttl -= 1 }
    }

    /// The same as it was received on this side.
    private func received(on side: Side) -> Packet {
        let conversation = side == .uplink ? outside : inside
        let (source, destination) =
            side == .uplink
            ? (conversation.published, conversation.client) : (conversation.client, conversation.target)
        var packet = Packet(
            .between(source.address, destination.address), sent(toward: side).transport, payload: Self.payload)
        packet.source = source
        packet.destination = destination
        packet.ttl = sent(toward: side).ttl
        return packet
    }

    /// The error as it comes in on a side, from the receiver.
    func error(_ message: CrossingErrorTests.Message, on side: Side, limit: Int = 1_232) -> Packet {
        let packet = received(on: side).with { $0.ethernet = nil }
        let quoted = Array(packet.bytes.prefix(limit))
        let (source, destination) = packet.ends
        return Packet.icmp(
            from: destination, to: source, type: message.type, code: message.code,
            rest: message.rest, payload: quoted
        ).with {
            $0.trafficClass = 0xb8
            $0.link =
                side == .uplink
                ? (outside.clientMAC, outside.uplinkMAC) : (inside.targetMAC, inside.containerMAC)
        }
    }

    /// What must become of it.
    func translated(
        _ message: CrossingErrorTests.Message, on side: Side, limit: Int, identification: (Int) -> UInt16
    ) -> Packet {
        let family = family(side.opposite)
        let quoted = sent(toward: side).with {
            $0.ethernet = nil
            let isLong = $0.bytes.count > 1_260
            $0.ipv4?.dontFragment = isLong
            if !isLong { $0.ipv4?.identification = identification(1) }
        }
        let grown = limit + family.headerLength - self.family(side).headerLength
        let most = family == .ipv4 ? 548 : 1_232
        let (source, destination) = sent(toward: side).ends
        return Packet.icmp(
            from: destination, to: source, type: message.type, code: message.code, rest: message.rest,
            payload: Array(quoted.bytes.prefix(min(grown, most)))
        ).with {
            $0.trafficClass = 0xb8
            $0.ipv4?.dontFragment = false
            $0.ipv4?.identification = family == .ipv4 ? identification(0) : 0
            $0.ttl -= 1
            $0.link =
                side == .uplink
                ? (outside.containerMAC, outside.targetMAC) : (outside.uplinkMAC, outside.clientMAC)
        }
    }
}

extension Packet {
    /// The addresses of a packet that has some.
    fileprivate var ends: (source: Address, destination: Address) {
        guard let source, let destination else { preconditionFailure("a packet without addresses") }
        return (source.address, destination.address)
    }
}
