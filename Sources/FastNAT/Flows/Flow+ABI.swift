internal import Addresses
internal import CDatapath

extension Flow {
    /// The flow of a record, or nil for one that is free or being made.
    ///
    /// - Parameter next: the record in the slot after, which has the addresses of a wide flow.
    init?(_ record: flow, next: flow, now: UInt64, timeouts: Timeouts) {
        guard UInt32(record.state.phase) != FLOW_DEAD.rawValue,
            let `protocol` = FlowProtocol(rawValue: record.protocolNumber)
        else { return nil }
        let state = FlowState(record, `protocol`)
        let idle = min(
            secondsSince(record.original.last_seen, now: now), secondsSince(record.reply.last_seen, now: now))
        self.init(
            protocol: `protocol`, state: state,
            original: FlowDirection(record.original, record.tuple(.original, next: next), `protocol`),
            reply: FlowDirection(record.reply, record.tuple(.reply, next: next), `protocol`),
            age: record.age(now: now),
            expires: max(0, Double(timeouts.seconds(for: state, `protocol`)) - idle))
    }
}

/// From units of 2^20 ns; what is later than when `now` was read has none.
private func secondsSince(_ then: UInt32, now: UInt64) -> Double {
    let units = UInt32(truncatingIfNeeded: now >> 20) &- then
    return units >= UNITS_AHEAD ? 0 : Double(units) * Double(1 << 20) / 1e9
}

extension flow {
    /// Which of the two tuples of a flow.
    enum Direction { case original, reply }

    var protocolNumber: UInt8 { state.kind & ~UInt8(KIND_WIDE) }

    /// Whether its addresses are in the slot after its own.
    var isWide: Bool { state.kind & UInt8(KIND_WIDE) != 0 }

    /// enum flow_flag
    var flags: UInt32 { original.word >> WORD_FLAGS_SHIFT.rawValue }

    /// Seconds since the first packet, to 2^30 ns, up to 208 days; a flow that began after `now` was read has none.
    fileprivate func age(now: UInt64) -> Double {
        let bits = 32 - WORD_CREATED_SHIFT.rawValue
        let units = UInt32(truncatingIfNeeded: now >> 30) &- reply.word >> WORD_CREATED_SHIFT.rawValue
        let age = units & (1 << bits - 1)
        return age == 1 << bits - 1 ? 0 : Double(age) * Double(1 << 30) / 1e9
    }

    /// One direction's packets as they arrive.
    ///
    /// - Parameter next: the record in the slot after.
    func tuple(_ direction: Direction, next: flow) -> tuple {
        let ends = direction == .original ? original_ends : reply_ends
        var tuple = CDatapath.tuple()
        (tuple.source_port, tuple.destination_port) = (ends.source_port, ends.destination_port)
        tuple.protocol = protocolNumber
        if isWide {
            let addresses = unsafeBitCast(next, to: flow_addresses.self)
            tuple.source = direction == .original ? addresses.original_source : addresses.reply_source
            tuple.destination = direction == .original ? addresses.original_destination : addresses.reply_destination
        } else {
            let prefix = UInt32(0xffff).bigEndian
            tuple.source.words = (0, 0, prefix, ends.source)
            tuple.destination.words = (0, 0, prefix, ends.destination)
        }
        return tuple
    }
}

extension FlowState {
    /// The same reading of the two directions as in bpf/nat/track.h.
    fileprivate init(_ record: flow, _ protocol: FlowProtocol) {
        let (original, reply) = (record.original.word, record.reply.word)
        let phase = UInt32(record.state.phase)
        let isOpen = phase == FLOW_OPEN.rawValue
        if record.flags & FLOW_PATTERN.rawValue != 0 {
            self = .endpoint
        } else if !`protocol`.hasHandshake {
            self = isOpen ? .replied : .unreplied
        } else if phase == FLOW_CUT.rawValue || (original | reply) & SEEN_RST.rawValue != 0
            || original & reply & SEEN_FIN.rawValue != 0
        {
            self = .closing
        } else {
            self = isOpen ? .established : .halfOpen
        }
    }
}

extension Timeouts {
    fileprivate func seconds(for state: FlowState, _ protocol: FlowProtocol) -> UInt32 {
        let datagrams = `protocol`.isEcho ? icmp : udp
        return switch state {
        case .halfOpen: tcpHalfOpen
        case .established: tcpOpen
        case .closing: tcpClosing
        case .unreplied, .replied: datagrams
        case .endpoint: `protocol`.hasHandshake ? tcpClosing : datagrams
        }
    }
}

extension FlowDirection {
    /// Both ends of an echo have the one identifier that its packets have.
    fileprivate init(_ half: flow_half, _ tuple: tuple, _ protocol: FlowProtocol) {
        var ports = (UInt16(bigEndian: tuple.source_port), UInt16(bigEndian: tuple.destination_port))
        if `protocol`.isEcho, ports.1 == ECHO_PORT.rawValue {
            ports.1 = ports.0
        } else if `protocol`.isEcho, ports.0 == ECHO_PORT.rawValue {
            ports.0 = ports.1
        }
        self.init(
            source: Endpoint(address: tuple.source.value, port: ports.0),
            destination: Endpoint(address: tuple.destination.value, port: ports.1),
            packets: half.packets, bytes: half.bytes)
    }
}
