import FastNATTesting

extension Packet {
    /// What a datapath looks flows up by; nil for what is neither TCP nor UDP.
    var tuple: ModelTuple? {
        guard let source, let destination, tcp != nil || udp != nil else { return nil }
        return ModelTuple(transport: tcp == nil ? .udp : .tcp, source: source, destination: destination)
    }

    /// The checksum of TCP or UDP as it stands in the frame.
    var transportField: UInt16 {
        let frame = bytes
        let offset = 14 + (ipv4.map { 20 + ($0.options.count + 3) / 4 * 4 } ?? 40) + (tcp == nil ? 6 : 16)
        return UInt16(frame[offset]) << 8 | UInt16(frame[offset + 1])
    }

    /// The same packet between other ends, one hop further: only addresses, ports and TTL change. A checksum that was wrong
    /// stays as wrong as it was, and a datagram without one gets none.
    func translated(to onward: ModelTuple) -> Packet {
        let next = TestNetwork.neighbour(of: onward.destination.address)
        let moved = with {
            $0.source = onward.source
            $0.destination = onward.destination
            $0.ttl -= 1
            $0.link = (TestNetwork.deviceMAC(next?.side ?? .uplink), next?.mac ?? .broadcast)
        }
        if transportChecksum == .correct { return moved }
        return moved.with { $0.transportChecksum = .value(carriedChecksum(from: self, to: moved)) }
    }

    /// A segment turned into a RST for its receiver.
    var asReset: Packet {
        guard let source, let destination, let tcp, let link else { return self }
        return Packet.tcp(from: source, to: destination, .rst, sequence: tcp.sequence).with {
            $0.link = link
            $0.tcp?.window = 0
        }
    }
}

extension Packet.TCP {
    /// Whether it is the first segment of one.
    var beginsConnection: Bool { flags.intersection([.syn, .ack, .rst, .fin]) == .syn }
}

/// What a checksum that may be wrong becomes: in one's complement arithmetic, as far off the right one as before.
private func carriedChecksum(from old: Packet, to new: Packet) -> UInt16 {
    let field = old.transportField
    if old.udp != nil, field == 0 { return 0 }
    let right = (old.with { $0.transportChecksum = .correct }, new.with { $0.transportChecksum = .correct })
    var change = onesComplement(right.0.transportField, ~right.1.transportField)
    if change == 0xffff { change = 0 }
    let result = ~onesComplement(~field, change)
    return new.udp != nil && result == 0 ? 0xffff : result
}

private func onesComplement(_ left: UInt16, _ right: UInt16) -> UInt16 {
    let sum = UInt32(left) + UInt32(right)
    return UInt16(sum & 0xffff + sum >> 16)
}
