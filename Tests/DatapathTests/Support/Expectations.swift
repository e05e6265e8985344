import BPF
import FastNATTesting
import Testing

@testable import FastNAT

/// What became of a packet.
struct Outcome {
    enum Verdict: Equatable {
        /// Up the stack.
        case passed
        case dropped
        case redirected
        /// An action that no program of fastnat returns.
        case unknown(UInt32)
    }

    let verdict: Verdict
    let packet: [UInt8]
    /// The reasons counted, and how often.
    let counted: [String: UInt64]
}

extension Outcome.Verdict {
    init(_ action: UInt32, at hook: Hook) {
        self =
            switch (hook, action) {
            case (.tc, .max), (.xdp, 2): .passed  // TCX_NEXT, XDP_PASS
            case (.tc, 2), (.xdp, 1): .dropped  // TC_ACT_SHOT, XDP_DROP
            case (.tc, 7), (.xdp, 4): .redirected  // TC_ACT_REDIRECT, XDP_REDIRECT
            default: .unknown(action)
            }
    }
}

extension TestDatapath {
    /// Sends a frame and says what became of it. At XDP every next hop is made fresh before, unless they are to be as they are.
    func outcome(
        of frame: [UInt8], at hook: Hook, on side: Side = .uplink, gsoSize: UInt32 = 0, refreshing: Bool = true
    ) throws -> Outcome {
        if hook == .xdp && refreshing { try setNextHops(.fresh) }
        let before = try reasons()
        let result = try run([frame], at: hook, on: side, gsoSize: gsoSize)[0]
        let counted = try reasons().merging(before) { $0 - $1 }.filter { $0.value != 0 }
        return Outcome(verdict: Outcome.Verdict(result.action, at: hook), packet: result.packet, counted: counted)
    }

    /// How many packets were counted under each reason so far.
    func reasons() throws -> [String: UInt64] {
        try Dictionary(uniqueKeysWithValues: datapath.reasonCounts().map { ($0.name, $0.packets) })
    }

    /// Expects that a packet is redirected, that it then is exactly `expected`, and that nothing is counted against it.
    func expectForwarded(
        _ packet: Packet, as expected: Packet, at hook: Hook = .tc, on side: Side = .uplink, gsoSize: UInt32 = 0,
        trailer: [UInt8] = [], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let outcome = try outcome(of: packet.bytes + trailer, at: hook, on: side, gsoSize: gsoSize)
        #expect(outcome.verdict == .redirected, sourceLocation: sourceLocation)
        #expect(outcome.counted == [:], sourceLocation: sourceLocation)
        let lines = diff(expected.bytes + trailer, outcome.packet)
        if !lines.isEmpty {
            Issue.record("packets differ\n\(lines.joined(separator: "\n"))", sourceLocation: sourceLocation)
        }
    }

    /// Expects that a client's packet reaches the target as it should.
    func expectForwarded(
        _ conversation: Conversation, _ request: Packet, at hook: Hook = .tc,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try expectForwarded(request, as: conversation.forwarded(request), at: hook, sourceLocation: sourceLocation)
    }

    /// Expects that a target's packet reaches the client as it should.
    func expectReturned(
        _ conversation: Conversation, _ reply: Packet, at hook: Hook = .tc,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try expectForwarded(
            reply, as: conversation.returned(reply), at: hook, on: .container, sourceLocation: sourceLocation)
    }

    /// Expects that a frame goes up the stack as it came. At TC it is counted under `reason`, if there is one; XDP
    /// leaves the counting to TC.
    func expectPassed(
        _ frame: [UInt8], at hook: Hook = .tc, on side: Side = .uplink, counting reason: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let outcome = try outcome(of: frame, at: hook, on: side)
        let expected: [String: UInt64] = hook == .tc ? reason.map { [$0: 1] } ?? [:] : [:]
        #expect(outcome.verdict == .passed, sourceLocation: sourceLocation)
        #expect(outcome.counted == expected, sourceLocation: sourceLocation)
        #expect(diff(frame, outcome.packet) == [], sourceLocation: sourceLocation)
    }

    func expectPassed(
        _ packet: Packet, at hook: Hook = .tc, on side: Side = .uplink, counting reason: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try expectPassed(packet.bytes, at: hook, on: side, counting: reason, sourceLocation: sourceLocation)
    }

    /// Expects that TC drops a packet and counts it under `reason`, and that XDP leaves it to TC.
    func expectDropped(
        _ packet: Packet, at hook: Hook = .tc, on side: Side = .uplink, counting reason: String, gsoSize: UInt32 = 0,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        if hook == .xdp { return try expectPassed(packet, at: hook, on: side, sourceLocation: sourceLocation) }
        let outcome = try outcome(of: packet.bytes, at: hook, on: side, gsoSize: gsoSize)
        #expect(outcome.verdict == .dropped, sourceLocation: sourceLocation)
        #expect(outcome.counted == [reason: 1], sourceLocation: sourceLocation)
    }

    /// Expects that TC turns a packet into an ICMP error to its sender, sends that back to where the packet came from, and
    /// counts it under `reason`; and that XDP leaves it to TC.
    func expectReported(
        _ packet: Packet, as kind: ICMPErrorKind, from reporter: Packet.Address? = nil, at hook: Hook = .tc,
        on side: Side = .uplink, counting reason: String, gsoSize: UInt32 = 0,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        if hook == .xdp { return try expectPassed(packet, at: hook, on: side, sourceLocation: sourceLocation) }
        let outcome = try outcome(of: packet.bytes, at: hook, on: side, gsoSize: gsoSize)
        #expect(outcome.verdict == .redirected, sourceLocation: sourceLocation)
        #expect(outcome.counted == [reason: 1], sourceLocation: sourceLocation)
        let expected = try report(kind, about: packet, on: side, from: reporter).with {
            $0.ipv4?.identification = UInt16(outcome.packet[18]) << 8 | UInt16(outcome.packet[19])  // at random
        }
        let lines = diff(expected.bytes, outcome.packet)
        if !lines.isEmpty {
            Issue.record("packets differ\n\(lines.joined(separator: "\n"))", sourceLocation: sourceLocation)
        }
    }

    /// The error about a packet, from where it was sent to or, for a container's, from its gateway, unless somebody is named.
    private func report(
        _ kind: ICMPErrorKind, about packet: Packet, on side: Side, from reporter: Packet.Address?
    ) throws -> Packet {
        let (source, destination) = (try #require(packet.source).address, try #require(packet.destination).address)
        let gateway = (source.isIPv6 ? Family.ipv6 : .ipv4).gateway
        let limit = source.isIPv6 ? 1_280 - 40 - 8 : 576 - 20 - 8
        return Packet.icmpError(
            from: reporter ?? (side == .uplink ? destination : gateway), to: source, kind, about: packet, limit: limit
        ).with {
            $0.ipv4?.tos = (packet.trafficClass & 0x1e) | 0xc0
            $0.ipv4?.dontFragment = false
            $0.link = packet.link.map { ($0.destination, $0.source) }
        }
    }

    /// Begins a conversation: a handshake, or a datagram each way. At TC, where alone that can be.
    func open(_ conversation: Conversation, sourceLocation: SourceLocation = #_sourceLocation) throws {
        try expectForwarded(conversation, conversation.request(.syn), sourceLocation: sourceLocation)
        try expectReturned(conversation, conversation.reply([.syn, .ack]), sourceLocation: sourceLocation)
        if conversation.transport != .udp {
            try expectForwarded(conversation, conversation.request(), sourceLocation: sourceLocation)
        }
    }

    /// The states of all flows.
    func states() throws -> [FlowState] { try datapath.flows().map(\.state) }
}
