import BPF
import FastNATTesting
import Testing

@testable import FastNAT

/// ICMP errors about packets of flows: to the packet's sender, with the packet as he sent it.
@Suite struct ErrorTests {
    static let kinds: [ICMPErrorKind] = [
        .portUnreachable, .hostUnreachable, .noRoute, .prohibited, .timeExceeded, .tooBig(mtu: 1_300),
    ]

    @Test(arguments: Kind.all, kinds)
    func `an error from the client reaches the target`(kind: Kind, error: ICMPErrorKind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        try datapath.expectErrors(conversation, error)
    }

    @Test(arguments: Family.allCases, kinds)
    func `an error about an SCTP packet changes its addresses alone`(family: Family, error: ICMPErrorKind) throws {
        let datapath = try TestDatapath([family.mapping("8080/sctp", to: "8080")])
        let conversation = Conversation(family, .sctp)
        try datapath.open(conversation)
        try datapath.expectErrors(conversation, error)
        try datapath.expectErrors(conversation, error, limit: family.headerLength + 8)
    }

    @Test(arguments: Kind.all)
    func `an error from a router on the way keeps its sender`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let errors = Errors(conversation, from: kind.family.stranger, kind.family.otherTarget)
        let reply = conversation.reply(payload: [1, 2, 3])
        try datapath.expectForwarded(errors.about(reply), as: errors.forwarded(about: reply))
        // The private side stays so: whoever it comes from there, it has the published address.
        let request = conversation.request(payload: [1, 2, 3])
        try datapath.expectForwarded(errors.about(request), as: errors.returned(about: request), on: .container)
    }

    @Test(arguments: Kind.all)
    func `a port that was changed is the client's own again`(kind: Kind) throws {
        let datapath = try TestDatapath()
        try datapath.add(["8081/\(kind.transport)"].map { kind.family.mapping($0, to: "80") })
        let first = Conversation(kind)
        try datapath.open(first)
        var second = first.with { $0.published.port = 8_081 }
        let outcome = try datapath.outcome(of: second.request(.syn).bytes, at: .tc)
        second.translatedPort = UInt16(outcome.packet[kind.family.headerLength + 14]) << 8
        second.translatedPort? |= UInt16(outcome.packet[kind.family.headerLength + 15])
        #expect(second.translatedPort != first.client.port)
        try datapath.expectErrors(second, .portUnreachable)
    }

    @Test(arguments: Kind.all)
    func `as little as eight bytes of the transport header suffice`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        for length in [8, 9, 16, 18, 19, 20, 21, 100] {
            try datapath.expectErrors(conversation, .portUnreachable, limit: kind.family.headerLength + length)
        }
        for length in [1, 19, kind.family.headerLength, kind.family.headerLength + 7] {
            let errors = Errors(conversation, limit: length)
            try datapath.expectPassed(errors.about(conversation.reply()))
            try datapath.expectPassed(errors.about(conversation.request()), on: .container)
        }
    }

    @Test(arguments: Kind.all)
    func `what is odd about the quoted packet stays`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let changes: [(inout Packet) -> Void] = [
            { $0.transportChecksum = .offBy(3) }, { $0.trafficClass = 0xb9 }, { $0.ttl = 200 },
            { $0.ipv4?.options = [UInt8](repeating: 1, count: 40) }, { $0.ipv4?.moreFragments = true },
            { $0.ipv6?.extensionHeaders = [.fragment(offset: 0, more: true, identification: 9)] },
            { if $0.udp != nil && $0.ipv4 != nil { $0.udp?.checksum = .zero } },
        ]
        for change in changes {
            try datapath.expectErrors(conversation, .timeExceeded, payload: [UInt8](repeating: 5, count: 150), change)
        }
    }

    @Test(arguments: Kind.all)
    func `extensions behind the quoted packet stay`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let errors = Errors(conversation, kind: .timeExceeded, limit: 128, isExtended: true)
        let reply = conversation.reply(payload: [UInt8](repeating: 3, count: 200))
        try datapath.expectForwarded(errors.about(reply), as: errors.forwarded(about: reply))
    }

    @Test(arguments: Kind.all)
    func `an error with a wrong checksum is dropped`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        for length in [0, 1, 2, 3, 300, 1_000] {
            let reply = conversation.reply(payload: [UInt8](repeating: 9, count: length))
            let error = Errors(conversation).about(reply)
            try datapath.expectDropped(error.with { $0.icmp?.checksum = .offBy(1) }, counting: "bad_error")
            let last = error.with { $0.payload[$0.payload.count - 1] ^= 1 }.bytes.suffix(1)
            let damaged = Array(error.bytes.dropLast()) + last
            #expect(try datapath.outcome(of: damaged, at: .tc).counted == ["bad_error": 1])
        }
    }

    @Test(arguments: Transport.allCases)
    func `an error that quotes a header with a wrong checksum is dropped`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, transport)
        try datapath.open(conversation)
        let reply = conversation.reply().with { $0.ipv4?.checksum = .offBy(1) }
        try datapath.expectDropped(Errors(conversation).about(reply), counting: "bad_error")
    }

    @Test(arguments: TransportWay.all)
    func `errors about no flow, and other messages, are left to the stack`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        let errors = Errors(conversation)
        try datapath.expectPassed(errors.about(conversation.reply()), at: way.hook)
        try datapath.expectPassed(errors.about(conversation.request()), at: way.hook, on: .container)
        try datapath.open(conversation)
        if way.hook == .xdp { try datapath.expectPassed(errors.about(conversation.reply()), at: .xdp) }
        let error = errors.about(conversation.reply())
        let otherTypes: [UInt8] = way.family == .ipv4 ? [0, 4, 5, 8, 13] : [0, 5, 128, 129, 134, 137]
        for type in otherTypes { try datapath.expectPassed(error.with { $0.icmp?.type = type }, at: way.hook) }
        // To another address than the packet came from, about a packet of the wrong direction, and about half a packet.
        try datapath.expectPassed(
            error.with { $0.ipv4?.destination = "192.0.2.2" }.with {
                $0.ipv6?.destination = "2001:db8:1::2"
            }, at: way.hook)
        let returned = conversation.returned(conversation.reply())
        try datapath.expectPassed(
            error.with { $0.payload = returned.with { $0.source = returned.destination }.bytes }, at: way.hook)
        let later = returned.with { $0.payload = [UInt8](repeating: 1, count: 200) }.fragments(
            of: 96, identification: 3)
        try datapath.expectPassed(
            error.with { $0.payload = later[1].with { $0.ethernet = nil }.bytes }, at: way.hook)
    }

    @Test(arguments: Kind.all)
    func `an error changes nothing about the flow`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let slot = try #require(try datapath.liveSlots().first)
        let before = try #require(try datapath.maps.record(slot))
        for error in Self.kinds { try datapath.expectErrors(conversation, error) }
        let after = try #require(try datapath.maps.record(slot))
        #expect(withUnsafeBytes(of: before) { Array($0) } == withUnsafeBytes(of: after) { Array($0) })
        try datapath.expectForwarded(conversation, conversation.request())
        try datapath.expectReturned(conversation, conversation.reply())
    }

    @Test(arguments: Kind.all)
    func `an error is not answered with another`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let error = Errors(conversation).about(conversation.reply())
        try datapath.expectDropped(error.with { $0.ttl = 1 }, counting: "ttl_expired")
        let martian: Packet.Address = kind.family == .ipv4 ? "127.0.0.1" : "ff02::1"
        let forged = Errors(conversation, from: martian, kind.family.target)
        try datapath.expectDropped(forged.about(conversation.reply()), counting: "martian_source")
    }
}

extension TestDatapath {
    /// Expects that errors about packets of both directions arrive as they should; `change` is made to these packets.
    fileprivate func expectErrors(
        _ conversation: Conversation, _ kind: ICMPErrorKind, payload: [UInt8] = [1, 2, 3, 4], limit: Int = 1_232,
        _ change: (inout Packet) -> Void = { _ in }, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let errors = Errors(conversation, kind: kind, limit: limit)
        let reply = conversation.reply(payload: payload).with(change)
        try expectForwarded(
            errors.about(reply), as: errors.forwarded(about: reply), sourceLocation: sourceLocation)
        let request = conversation.request(payload: payload).with(change)
        try expectForwarded(
            errors.about(request), as: errors.returned(about: request), on: .container, sourceLocation: sourceLocation)
    }
}

/// Errors about the packets of a conversation, as they arrive at the host, and what must become of them.
private struct Errors {
    let conversation: Conversation
    let kind: ICMPErrorKind
    let limit: Int
    /// Who sends them on either side.
    let outside: Packet.Address
    let inside: Packet.Address
    /// With a structure behind the quoted packet (RFC 4884), whose place the header tells.
    let isExtended: Bool

    init(
        _ conversation: Conversation, from outside: Packet.Address? = nil, _ inside: Packet.Address? = nil,
        kind: ICMPErrorKind = .portUnreachable, limit: Int = 1_232, isExtended: Bool = false
    ) {
        self.conversation = conversation
        self.kind = kind
        self.limit = limit
        self.outside = outside ?? conversation.client.address
        self.inside = inside ?? conversation.target.address
        self.isExtended = isExtended
    }

    /// From the receiver of a packet, which got it translated.
    func about(_ packet: Packet) -> Packet {
        isReply(packet)
            ? error(outside, conversation.published.address, conversation.returned(packet)).with {
                $0.link = (conversation.clientMAC, conversation.uplinkMAC)
            }
            : error(inside, conversation.client.address, conversation.forwarded(packet)).with {
                $0.link = (conversation.targetMAC, conversation.containerMAC)
            }
    }

    /// What becomes of one about a reply.
    func forwarded(about reply: Packet) -> Packet {
        error(outside, conversation.target.address, reply.with { $0.ttl -= 1 }).with {
            $0.link = (conversation.containerMAC, conversation.targetMAC)
            $0.ttl -= 1
        }
    }

    /// What becomes of one about a request.
    func returned(about request: Packet) -> Packet {
        error(conversation.published.address, conversation.client.address, request.with { $0.ttl -= 1 }).with {
            $0.link = (conversation.uplinkMAC, conversation.clientMAC)
            $0.ttl -= 1
        }
    }

    private func isReply(_ packet: Packet) -> Bool { packet.source?.address == conversation.target.address }

    private func error(_ source: Packet.Address, _ destination: Packet.Address, _ packet: Packet) -> Packet {
        let error = Packet.icmpError(from: source, to: destination, kind, about: packet, limit: limit)
        if !isExtended { return error }
        return error.with {
            $0.icmp?.rest = UInt32(limit / (source.isIPv6 ? 8 : 4)) << (source.isIPv6 ? 24 : 16)
            $0.payload += [0x20, 0, 0xd0, 0x10, 0, 8, 1, 1, 0, 0x3e, 0x91, 0x40]
        }
    }
}
