import FastNATTesting

@testable import FastNAT

/// Addresses, ports and protocol of the packets of one direction.
struct ModelTuple: Hashable {
    var transport: Transport
    var source: Packet.Endpoint
    var destination: Packet.Endpoint

    var reversed: ModelTuple { ModelTuple(transport: transport, source: destination, destination: source) }
}

/// A flow as the documents describe it (docs/state.md).
struct ModelFlow {
    enum Direction: Int { case original, reply }

    /// What a direction has carried.
    struct Seen: OptionSet {
        let rawValue: UInt8
        static let any = Seen(rawValue: 1)
        static let syn = Seen(rawValue: 2)
        static let ack = Seen(rawValue: 4)
        static let fin = Seen(rawValue: 8)
        static let rst = Seen(rawValue: 16)
    }

    /// What is kept for each direction.
    struct Half {
        /// Of the packets as they arrive.
        let tuple: ModelTuple
        var seen: Seen = []
        var packets: UInt64 = 0
        var bytes: UInt64 = 0
        /// The way of its packets is known since less than a second.
        var isRouted = false
        /// The device whose address frames of this direction are sent to; nil before one is known.
        var device: Packet.MAC?
    }

    /// Of its mapping or masquerade.
    let rule: Int
    /// The way to its target is that of all flows of its mapping: it is between the client's own address and the target.
    private(set) var sharesWay: Bool
    var halves: [Half]
    var isOpen = false
    var isCut = false
    /// When the last packet came, s.
    var lastSeen: Int

    init(rule: Int, sharesWay: Bool, original: ModelTuple, reply: ModelTuple, device: Packet.MAC?, now: Int) {
        self.rule = rule
        self.sharesWay = sharesWay
        halves = [Half(tuple: original, device: device), Half(tuple: reply)]
        lastSeen = now
    }

    subscript(direction: Direction) -> Half {
        get { halves[direction.rawValue] }
        set { halves[direction.rawValue] = newValue }
    }

    var transport: Transport { self[.original].tuple.transport }

    /// FIN from both sides, or RST from one.
    var isClosing: Bool { !eitherSeen.isDisjoint(with: .rst) || hasBothFINs }

    /// Only a RST of the client's side says that the connection has ended, and that may be forged.
    var isInDoubt: Bool {
        isOpen && self[.original].seen.contains(.rst) && !self[.reply].seen.contains(.rst) && !hasBothFINs
    }

    /// As `fastnat conntrack list` prints it.
    var state: String {
        if transport == .udp { return isOpen ? "replied" : "unreplied" }
        return isClosing ? "closing" : isOpen ? "established" : "half-open"
    }

    private var eitherSeen: Seen { self[.original].seen.union(self[.reply].seen) }
    private var hasBothFINs: Bool { self[.original].seen.contains(.fin) && self[.reply].seen.contains(.fin) }

    /// Takes note of a packet that is forwarded.
    mutating func track(_ packet: Packet, _ direction: Direction, now: Int) {
        lastSeen = now
        self[direction].packets += 1
        self[direction].bytes += UInt64(packet.bytes.count - 14)
        self[direction].seen.insert(.any)
        guard let flags = packet.tcp?.flags else {
            isOpen = isOpen || halves.allSatisfy { $0.seen.contains(.any) }
            return
        }
        let pairs: [(Packet.TCPFlags, Seen)] = [(.syn, .syn), (.ack, .ack), (.fin, .fin), (.rst, .rst)]
        for (flag, seen) in pairs where flags.contains(flag) { self[direction].seen.insert(seen) }
        // Established: the target has sent its SYN, the client an ACK, in whatever order (decision 0007). After a RST, any other
        // segment with ACK makes it so again (RFC 7857, 2.2).
        let isShakenHands = self[.reply].seen.contains(.syn) && self[.original].seen.contains(.ack)
        if flags.contains(.ack), !flags.contains(.rst), isShakenHands {
            isOpen = true
            for direction in halves.indices { halves[direction].seen.remove(.rst) }
        }
    }

    /// Ends the connection for both sides: each learns it with its next segment.
    mutating func cut() {
        isCut = true
        sharesWay = false
        for direction in halves.indices {
            halves[direction].seen.insert(.fin)
            halves[direction].isRouted = false
        }
    }

    /// Whether it has been silent for longer than the timeout of its state.
    func isIdle(at now: Int, _ timeouts: Timeouts) -> Bool {
        let limit =
            switch state {
            case "half-open": timeouts.tcpHalfOpen
            case "closing": timeouts.tcpClosing
            case "established": timeouts.tcpOpen
            default: timeouts.udp
            }
        return now - lastSeen > limit
    }
}
