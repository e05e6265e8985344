extension Packet {
    /// The frame.
    public var bytes: [UInt8] {
        let upper = networkBytes
        var frame: [UInt8] = []
        if let ethernet {
            frame += ethernet.destination.bytes + ethernet.source.bytes
            if let vlan = ethernet.vlan { frame += UInt16(0x8100).networkBytes + vlan.networkBytes }
            frame += (ethernet.type ?? network.etherType).networkBytes
        }
        frame += upper
        return truncation.map { Array(frame.prefix($0)) } ?? frame
    }

    private var networkBytes: [UInt8] {
        switch network {
        case .ipv4(let header):
            let number = header.protocolNumber ?? transport.protocolNumber(isIPv6: false)
            let upper = transportBytes(from: header.source, to: header.destination)
            return header.bytes(protocolNumber: number, payloadLength: upper.count) + upper
        case .ipv6(let header):
            let number = header.nextHeader ?? transport.protocolNumber(isIPv6: true)
            let upper = transportBytes(from: header.source, to: header.destination)
            return header.bytes(nextHeader: number, payloadLength: upper.count) + upper
        case .arp(let message): return message.bytes + payload
        case .raw: return payload
        }
    }

    /// The transport header and the payload.
    func transportBytes(from source: Address, to destination: Address) -> [UInt8] {
        var segment: [UInt8]
        let place: Int
        let checksum: Checksum
        switch transport {
        case .raw: return payload
        case .tcp(let header): (segment, place, checksum) = (header.bytes + payload, 16, header.checksum)
        case .udp(let header): (segment, place, checksum) = (header.bytes(payload) + payload, 6, header.checksum)
        case .sctp(let header): return header.bytes(payload)
        case .icmp(let header): (segment, place, checksum) = (header.bytes + payload, 2, header.checksum)
        }
        let pseudoHeader = pseudoHeaderSum(
            source: source, destination: destination,
            protocolNumber: transport.protocolNumber(isIPv6: source.isIPv6), length: segment.count)
        let start = transport.usesPseudoHeader(isIPv6: source.isIPv6) ? pseudoHeader : 0
        var correct = ~onesComplementSum(segment, from: start)
        if case .udp = transport, correct == 0 { correct = 0xffff }
        let field = checksum.field(correct: correct, pseudoHeader: pseudoHeader)
        segment.replaceSubrange(place..<place + 2, with: field.networkBytes)
        return segment
    }
}

extension Packet.Network {
    var etherType: UInt16 {
        switch self {
        case .ipv4: 0x0800
        case .ipv6: 0x86dd
        case .arp: 0x0806
        case .raw: 0
        }
    }
}

extension Packet.Transport {
    /// IP's number; 253 ("for experiments", RFC 3692) when there is no header.
    func protocolNumber(isIPv6: Bool) -> UInt8 {
        switch self {
        case .tcp: 6
        case .udp: 17
        case .sctp: 132
        case .icmp: isIPv6 ? 58 : 1
        case .raw: 253
        }
    }

    func usesPseudoHeader(isIPv6: Bool) -> Bool {
        if case .icmp = self { isIPv6 } else { true }
    }
}

extension Packet.IPv4 {
    func bytes(protocolNumber: UInt8, payloadLength: Int) -> [UInt8] {
        let options = padded(options, toMultipleOf: 4)
        let length = 20 + options.count
        let totalLength = UInt16(truncatingIfNeeded: length + payloadLength + totalLengthDelta)
        let flags: UInt16 = (dontFragment ? 0x4000 : 0) | (moreFragments ? 0x2000 : 0)
        var header = [0x40 | UInt8(truncatingIfNeeded: length / 4), tos]
        header += totalLength.networkBytes + identification.networkBytes
        header += (flags | fragmentOffset & 0x1fff).networkBytes
        header += [ttl, protocolNumber, 0, 0] + source.bytes + destination.bytes + options
        let field = checksum.field(correct: ~onesComplementSum(header), pseudoHeader: 0)
        header.replaceSubrange(10..<12, with: field.networkBytes)
        return header
    }
}

extension Packet.IPv6 {
    func bytes(nextHeader last: UInt8, payloadLength: Int) -> [UInt8] {
        let numbers = extensionHeaders.map(\.number) + [last]
        var extensions: [UInt8] = []
        for (header, next) in zip(extensionHeaders, numbers.dropFirst()) { extensions += [next] + header.body }
        let length = UInt16(truncatingIfNeeded: extensions.count + payloadLength + payloadLengthDelta)
        let firstWord = UInt32(6) << 28 | UInt32(trafficClass) << 20 | flowLabel & 0xf_ffff
        let addresses = source.bytes + destination.bytes
        return firstWord.networkBytes + length.networkBytes + [numbers[0], hopLimit] + addresses + extensions
    }
}

extension Packet.ARP {
    var bytes: [UInt8] {
        let kind: [UInt8] = [0, 1, 0x08, 0, 6, 4]
        return kind + operation.networkBytes + senderMAC.bytes + sender.bytes + targetMAC.bytes + target.bytes
    }
}

extension Packet.TCP {
    /// The header with a checksum of 0.
    var bytes: [UInt8] {
        let options = padded(options, toMultipleOf: 4)
        let words = UInt8(truncatingIfNeeded: 5 + options.count / 4)
        let ports = sourcePort.networkBytes + destinationPort.networkBytes
        let numbers = sequence.networkBytes + acknowledgement.networkBytes
        let tail = [words << 4, flags.rawValue] + window.networkBytes + [0, 0] + urgentPointer.networkBytes
        return ports + numbers + tail + options
    }
}

extension Packet.UDP {
    /// The header with a checksum of 0.
    func bytes(_ payload: [UInt8]) -> [UInt8] {
        let length = UInt16(truncatingIfNeeded: 8 + payload.count + lengthDelta)
        return sourcePort.networkBytes + destinationPort.networkBytes + length.networkBytes + [0, 0]
    }
}

extension Packet.SCTP {
    /// The whole packet, the chunk padded to a multiple of 4.
    func bytes(_ payload: [UInt8]) -> [UInt8] {
        let ports = sourcePort.networkBytes + destinationPort.networkBytes
        let length = UInt16(truncatingIfNeeded: 4 + payload.count)
        let chunk = [chunk.rawValue, 0] + length.networkBytes + padded(payload, toMultipleOf: 4)
        var packet = ports + verificationTag.networkBytes + [0, 0, 0, 0] + chunk
        packet.replaceSubrange(8..<12, with: checksum?.networkBytes ?? sctpChecksum(packet))
        return packet
    }
}

extension Packet.ICMP {
    /// The header with a checksum of 0.
    var bytes: [UInt8] { [type, code, 0, 0] + rest.networkBytes }
}

private func padded(_ bytes: [UInt8], toMultipleOf size: Int) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: (size - bytes.count % size) % size)
}
