internal import Addresses
internal import CDatapath

extension Flow {
    /// The flow of a record, or nil for one that is free or being made.
    init?(_ record: flow, now: UInt64, timeouts: Timeouts) {
        guard record.state.phase != FLOW_DEAD.rawValue,
            let `protocol` = FlowProtocol(rawValue: record.original.tuple.protocol)
        else { return nil }
        let state = FlowState(record, `protocol`)
        let lastSeen = max(record.original.last_seen, record.reply.last_seen)
        let idle = now > lastSeen ? Double(now - lastSeen) / 1e9 : 0
        self.init(
            protocol: `protocol`, state: state,
            original: FlowDirection(record.original, `protocol`), reply: FlowDirection(record.reply, `protocol`),
            age: secondsSince(record.created, now: now),
            expires: max(0, Double(timeouts.seconds(for: state, `protocol`)) - idle))
    }
}

/// In seconds, to 2^26 ns; a flow that began after `now` was read has none.
private func secondsSince(_ created: UInt32, now: UInt64) -> Double {
    let units = Int32(bitPattern: UInt32(truncatingIfNeeded: now >> 26) &- created)
    return Double(max(0, units)) * Double(1 << 26) / 1e9
}

extension FlowState {
    /// The same reading of the two directions as in bpf/nat/track.h.
    fileprivate init(_ record: flow, _ protocol: FlowProtocol) {
        let (original, reply) = (record.original.seen, record.reply.seen)
        let phase = record.state.phase
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
    fileprivate init(_ half: flow_half, _ protocol: FlowProtocol) {
        var ports = (UInt16(bigEndian: half.tuple.source_port), UInt16(bigEndian: half.tuple.destination_port))
        if `protocol`.isEcho, ports.1 == ECHO_PORT.rawValue {
            ports.1 = ports.0
        } else if `protocol`.isEcho, ports.0 == ECHO_PORT.rawValue {
            ports.0 = ports.1
        }
        self.init(
            source: Endpoint(address: half.tuple.source.value, port: ports.0),
            destination: Endpoint(address: half.tuple.destination.value, port: ports.1),
            packets: half.packets, bytes: half.bytes)
    }
}
