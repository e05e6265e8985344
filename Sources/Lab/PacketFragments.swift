extension Packet {
    /// The packet in fragments of at most `size` bytes after the network header (rounded down to a multiple of 8), the
    /// transport checksum being that of the whole. `identification` tells them from other packets' fragments.
    public func fragments(of size: Int, identification: UInt32) -> [Packet] {
        guard let source = source?.address, let destination = destination?.address else { return [self] }
        let whole = transportBytes(from: source, to: destination)
        let step = max(8, size / 8 * 8)
        return stride(from: 0, to: whole.count, by: step).map { start in
            let end = min(start + step, whole.count)
            return with {
                $0.transport = .raw
                $0.payload = Array(whole[start..<end])
                $0.markFragment(
                    offset: UInt16(start / 8), more: end < whole.count, identification: identification,
                    protocolNumber: transport.protocolNumber(isIPv6: source.isIPv6))
            }
        }
    }

    private mutating func markFragment(offset: UInt16, more: Bool, identification: UInt32, protocolNumber: UInt8) {
        ipv4?.dontFragment = false
        ipv4?.moreFragments = more
        ipv4?.fragmentOffset = offset
        ipv4?.identification = UInt16(truncatingIfNeeded: identification)
        if let ipv4 { self.ipv4?.protocolNumber = ipv4.protocolNumber ?? protocolNumber }
        let header = ExtensionHeader.fragment(offset: offset, more: more, identification: identification)
        ipv6?.extensionHeaders.append(header)
        if let ipv6 { self.ipv6?.nextHeader = ipv6.nextHeader ?? protocolNumber }
    }
}
