import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// A packet of a conversation in fragments: as they arrive, and what must become of each.
struct FragmentedPacket {
    let side: Side
    /// As they arrive, in order of their offsets.
    let fragments: [Packet]
    /// What must become of them.
    let expected: [Packet]

    /// A request, or a reply when `side` is the container's, cut into fragments of at most `size` bytes of payload.
    init(
        _ conversation: Conversation, from side: Side = .uplink, payload: [UInt8] = (0..<100).map { UInt8($0) },
        of size: Int = 48, identification: UInt32 = 99
    ) {
        let isRequest = side == .uplink
        let whole = isRequest ? conversation.request(payload: payload) : conversation.reply(payload: payload)
        self.init(
            side, whole, isRequest ? conversation.forwarded(whole) : conversation.returned(whole), of: size,
            identification)
    }

    init(_ side: Side, _ whole: Packet, _ translated: Packet, of size: Int, _ identification: UInt32) {
        self.side = side
        fragments = whole.fragments(of: size, identification: identification)
        expected = translated.fragments(of: size, identification: identification)
    }
}

extension TestDatapath {
    /// Expects that a fragment is translated.
    func expectForwarded(
        _ packet: FragmentedPacket, _ number: Int, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try expectForwarded(
            packet.fragments[number], as: packet.expected[number], on: packet.side, sourceLocation: sourceLocation)
    }

    /// Expects that a fragment that comes before its first is kept: from the uplink a copy of it, which goes up the stack;
    /// from a container the fragment itself.
    func expectKept(
        _ packet: FragmentedPacket, _ number: Int, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let fragment = packet.fragments[number]
        if packet.side == .uplink {
            try expectPassed(fragment, counting: "fragment", sourceLocation: sourceLocation)
        } else {
            try expectDropped(fragment, on: .container, counting: "fragment_held", sourceLocation: sourceLocation)
        }
    }

    /// Expects that the datapath takes a frame to let it come in again with others: neither dropped nor counted.
    func expectTaken(
        _ packet: Packet, on side: Side, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let outcome = try outcome(of: packet.bytes, at: .tc, on: side)
        #expect(outcome.verdict == .dropped, sourceLocation: sourceLocation)
        #expect(outcome.counted == [:], sourceLocation: sourceLocation)
    }

    /// The device that packets of a side come in on.
    func device(of side: Side) -> TestNetwork.Device { side == .uplink ? network.uplink : network.container }

    /// Makes all notes of first fragments older by so many seconds.
    func ageFragmentNotes(by seconds: UInt64) throws {
        for key in try maps.fragmentNotes.keys() {
            guard var note = try maps.fragmentNotes.value(key) else { continue }
            note.noted -= seconds * 1_000_000_000
            try maps.fragmentNotes.set(key, note)
        }
    }

    /// The same for the queues of fragments that wait.
    func ageFragmentQueues(by seconds: UInt64) throws {
        for key in try maps.fragmentQueues.keys() {
            guard var queue = try maps.fragmentQueues.value(key) else { continue }
            queue.begun -= seconds * 1_000_000_000
            try maps.fragmentQueues.set(key, queue)
        }
    }
}

/// A kind of conversation, and who sends the fragments.
struct FragmentWay: Sendable, CustomTestStringConvertible {
    let kind: Kind
    let side: Side

    var testDescription: String { "\(kind.testDescription), from the \(side)" }

    static let all = Kind.all.flatMap { kind in [Side.uplink, .container].map { FragmentWay(kind: kind, side: $0) } }
}
