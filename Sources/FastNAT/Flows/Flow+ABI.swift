internal import Addresses
internal import CDatapath

extension Flow {
    /// The flow of a record, or nil for one that is free or being made.
    init?(_ record: flow, now: UInt64, timeouts: Timeouts) {
        guard record.life.state.phase != FLOW_DEAD.rawValue,
            let transport = TransportProtocol(rawValue: record.original.tuple.protocol)
        else { return nil }
        let state = FlowState(record, transport)
        let lastSeen = max(record.original.last_seen, record.reply.last_seen)
        let idle = now > lastSeen ? Double(now - lastSeen) / 1e9 : 0
        self.init(
            transport: transport, state: state,
            original: FlowDirection(record.original), reply: FlowDirection(record.reply),
            age: now > record.life.created ? Double(now - record.life.created) / 1e9 : 0,
            expires: max(0, Double(timeouts.seconds(for: state, transport)) - idle))
    }
}

extension FlowState {
    /// The same reading of the two directions as in bpf/nat/track.h.
    fileprivate init(_ record: flow, _ transport: TransportProtocol) {
        let (original, reply) = (record.original.seen, record.reply.seen)
        let isOpen = record.life.state.phase == FLOW_OPEN.rawValue
        if record.life.flags & FLOW_PATTERN.rawValue != 0 {
            self = .endpoint
        } else if !transport.hasHandshake {
            self = isOpen ? .replied : .unreplied
        } else if (original | reply) & SEEN_RST.rawValue != 0 || original & reply & SEEN_FIN.rawValue != 0 {
            self = .closing
        } else {
            self = isOpen ? .established : .halfOpen
        }
    }
}

extension Timeouts {
    fileprivate func seconds(for state: FlowState, _ transport: TransportProtocol) -> UInt32 {
        switch state {
        case .halfOpen: tcpHalfOpen
        case .established: tcpOpen
        case .closing: tcpClosing
        case .unreplied, .replied: udp
        case .endpoint: transport.hasHandshake ? tcpClosing : udp
        }
    }
}

extension FlowDirection {
    fileprivate init(_ half: flow_half) {
        self.init(
            source: Endpoint(address: half.tuple.source.value, port: UInt16(bigEndian: half.tuple.source_port)),
            destination: Endpoint(
                address: half.tuple.destination.value, port: UInt16(bigEndian: half.tuple.destination_port)),
            packets: half.packets, bytes: half.bytes)
    }
}
