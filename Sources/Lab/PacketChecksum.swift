/// The one's complement sum of 16-bit words (RFC 1071), an odd last byte padded with zero.
///
/// Written word by word from the RFC's definition, on purpose without any incremental update.
func onesComplementSum(_ bytes: some Collection<UInt8>, from start: UInt16 = 0) -> UInt16 {
    var sum = UInt64(start)
    var isHigh = true
    for byte in bytes {
        sum += isHigh ? UInt64(byte) << 8 : UInt64(byte)
        isHigh.toggle()
    }
    while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
    return UInt16(sum)
}

/// The pseudo-header's sum: both addresses, the length and the protocol, alike for IPv4 and IPv6.
func pseudoHeaderSum(
    source: Packet.Address, destination: Packet.Address, protocolNumber: UInt8, length: Int
) -> UInt16 {
    let tail = UInt32(length).networkBytes + UInt32(protocolNumber).networkBytes
    return onesComplementSum(source.bytes + destination.bytes + tail)
}

/// The CRC32c of an SCTP packet whose checksum field is 0, in the order of its bytes on the wire (RFC 9260, appendix A).
///
/// Written bit by bit from the polynomial, on purpose without a table.
func sctpChecksum(_ packet: some Collection<UInt8>) -> [UInt8] {
    var remainder = UInt32.max
    for byte in packet {
        remainder ^= UInt32(byte)
        for _ in 0..<8 { remainder = remainder >> 1 ^ (remainder & 1 == 1 ? 0x82f6_3b78 : 0) }
    }
    return (~remainder).byteSwapped.networkBytes
}

extension Packet.Checksum {
    /// The field's value, given the right one and the pseudo-header's sum.
    func field(correct: UInt16, pseudoHeader: UInt16) -> UInt16 {
        switch self {
        case .correct: correct
        case .offBy(let delta): correct &+ delta
        case .value(let value): value
        case .partial: pseudoHeader
        }
    }
}
