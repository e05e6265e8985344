/// What the transport layer needs to know of the network layer.
struct NetworkContext {
    var source: Packet.Address
    var destination: Packet.Address
    var protocolNumber: UInt8
    var isFragment = false
    var isLaterFragment = false
    /// Quoted by an ICMP error: only the beginning may be there, so that checksums of what is missing cannot be checked.
    var prefix = ""
}

extension PacketView {
    mutating func decodeNetwork(_ start: PacketCursor, prefix: String) {
        var cursor = start
        switch cursor.rest.first.map({ $0 >> 4 }) {
        case 4: decodeIPv4(&cursor, prefix)
        case 6: decodeIPv6(&cursor, prefix)
        default: note("\(prefix)ip: truncated, or no version 4 or 6")
        }
    }

    private mutating func decodeIPv4(_ cursor: inout PacketCursor, _ prefix: String) {
        let whole = cursor.rest
        guard var header = cursor.take(20) else { return note("\(prefix)ip: truncated") }
        let length = Int(header[0] & 15) * 4
        guard length >= 20, let options = cursor.take(length - 20) else { return note("\(prefix)ip: header length") }
        header += options
        let total = Int(header.u16(2))
        let place = header.u16(6)
        add(prefix + "ip.tos", "0x" + hex(header[1], digits: 2))
        add(prefix + "ip.length", total)
        add(prefix + "ip.id", header.u16(4))
        add(prefix + "ip.flags", fragmentFlags(place))
        add(prefix + "ip.offset", place & 0x1fff)
        add(prefix + "ip.ttl", header[8])
        add(prefix + "ip.protocol", header[9])
        add(prefix + "ip.checksum", "0x" + hex(header.u16(10), digits: 4))
        let context = NetworkContext(
            source: Packet.Address(bytes: header[12..<16]), destination: Packet.Address(bytes: header[16..<20]),
            protocolNumber: header[9], isFragment: place & 0x3fff != 0, isLaterFragment: place & 0x1fff != 0,
            prefix: prefix)
        add(prefix + "ip.src", context.source)
        add(prefix + "ip.dst", context.destination)
        if !options.isEmpty { add(prefix + "ip.options", hexText(options)) }
        if onesComplementSum(header) != 0xffff { note("\(prefix)ip.checksum is wrong") }
        decodeBounded(&cursor, context, length: total - length, isComplete: whole.count >= total)
    }

    private mutating func decodeIPv6(_ cursor: inout PacketCursor, _ prefix: String) {
        guard let header = cursor.take(40) else { return note("\(prefix)ip6: truncated") }
        add(prefix + "ip6.tclass", "0x" + hex(header.u32(0) >> 20 & 0xff, digits: 2))
        add(prefix + "ip6.flow", "0x" + hex(header.u32(0) & 0xf_ffff, digits: 5))
        add(prefix + "ip6.length", header.u16(4))
        add(prefix + "ip6.next", header[6])
        add(prefix + "ip6.hops", header[7])
        var context = NetworkContext(
            source: Packet.Address(bytes: header[8..<24]), destination: Packet.Address(bytes: header[24..<40]),
            protocolNumber: header[6], prefix: prefix)
        add(prefix + "ip6.src", context.source)
        add(prefix + "ip6.dst", context.destination)
        let before = cursor.rest.count
        guard decodeExtensionHeaders(&cursor, &context) else { return note("\(prefix)ip6: truncated extension header") }
        let extensions = before - cursor.rest.count
        let length = Int(header.u16(4))
        decodeBounded(&cursor, context, length: length - extensions, isComplete: before >= length)
    }

    /// false: truncated.
    private mutating func decodeExtensionHeaders(_ cursor: inout PacketCursor, _ context: inout NetworkContext) -> Bool
    {
        let known: Set<UInt8> = [0, 43, 44, 60, 135]
        var index = 0
        while known.contains(context.protocolNumber), !context.isLaterFragment {
            guard var header = cursor.take(8) else { return false }
            if context.protocolNumber == 44 {
                context.isFragment = header.u16(2) & 0xfff9 != 0
                context.isLaterFragment = header.u16(2) & 0xfff8 != 0
            } else {
                guard let more = cursor.take(Int(header[1]) * 8) else { return false }
                header += more
            }
            add("\(context.prefix)ext\(index).number", context.protocolNumber)
            add("\(context.prefix)ext\(index).body", hexText(header[1...]))
            context.protocolNumber = header[0]
            index += 1
        }
        return true
    }

    /// Cuts off what is behind the IP packet, such as Ethernet's padding.
    private mutating func decodeBounded(
        _ cursor: inout PacketCursor, _ context: NetworkContext, length: Int, isComplete: Bool
    ) {
        let trailer = cursor.limit(length)
        if !isComplete, context.prefix.isEmpty { note("ip: length beyond the frame's end") }
        decodeTransport(cursor, context, isComplete: isComplete)
        if !trailer.isEmpty { add(context.prefix + "trailer", hexText(trailer)) }
    }

    private mutating func decodeTransport(_ start: PacketCursor, _ context: NetworkContext, isComplete: Bool) {
        var cursor = start
        let isChecked = isComplete && !context.isFragment
        switch context.protocolNumber {
        case _ where context.isLaterFragment: addPayload(cursor.rest, prefix: context.prefix)
        case 6: decodeTCP(&cursor, context, isChecked)
        case 17: decodeUDP(&cursor, context, isChecked)
        case 132: decodeSCTP(&cursor, context, isChecked)
        case 1 where !context.source.isIPv6, 58 where context.source.isIPv6: decodeICMP(&cursor, context, isChecked)
        default: addPayload(cursor.rest, prefix: context.prefix)
        }
    }

    private mutating func decodeTCP(_ cursor: inout PacketCursor, _ context: NetworkContext, _ isChecked: Bool) {
        let (whole, name) = (cursor.rest, context.prefix + "tcp")
        addPorts(cursor.rest, name)
        guard let header = cursor.take(20), let options = cursor.take(Int(header[12] >> 4) * 4 - 20) else {
            return addTruncated(cursor, name, context)
        }
        add("\(name).seq", header.u32(4))
        add("\(name).ack", header.u32(8))
        add("\(name).flags", Packet.TCPFlags(rawValue: header[13]))
        add("\(name).window", header.u16(14))
        add("\(name).checksum", "0x" + hex(header.u16(16), digits: 4))
        add("\(name).urgent", header.u16(18))
        if !options.isEmpty { add("\(name).options", hexText(options)) }
        if isChecked, !isSumValid(whole, context) { note("\(name).checksum is wrong") }
        addPayload(cursor.rest, prefix: context.prefix)
    }

    private mutating func decodeUDP(_ cursor: inout PacketCursor, _ context: NetworkContext, _ isChecked: Bool) {
        let (whole, name) = (cursor.rest, context.prefix + "udp")
        addPorts(cursor.rest, name)
        guard let header = cursor.take(8) else { return addTruncated(cursor, name, context) }
        let isOptional = !context.source.isIPv6 && header.u16(6) == 0
        add("\(name).length", header.u16(4))
        add("\(name).checksum", "0x" + hex(header.u16(6), digits: 4))
        if isChecked, Int(header.u16(4)) != whole.count { note("\(name).length is wrong") }
        let isZero = header.u16(6) == 0
        if isChecked, !isOptional, isZero || !isSumValid(whole, context) { note("\(name).checksum is wrong") }
        addPayload(cursor.rest, prefix: context.prefix)
    }

    private mutating func decodeSCTP(_ cursor: inout PacketCursor, _ context: NetworkContext, _ isChecked: Bool) {
        let (whole, name) = (Array(cursor.rest), context.prefix + "sctp")
        addPorts(cursor.rest, name)
        guard let header = cursor.take(16) else { return addTruncated(cursor, name, context) }
        add("\(name).tag", header.u32(4))
        add("\(name).checksum", "0x" + hex(header.u32(8), digits: 8))
        add("\(name).chunk", header[12])
        let blanked = whole[..<8] + [0, 0, 0, 0] + whole[12...]
        if isChecked, sctpChecksum(blanked) != Array(header[8..<12]) { note("\(name).checksum is wrong") }
        addPayload(cursor.rest, prefix: context.prefix)
    }

    private mutating func decodeICMP(_ cursor: inout PacketCursor, _ context: NetworkContext, _ isChecked: Bool) {
        let (whole, name) = (cursor.rest, context.prefix + "icmp")
        guard let header = cursor.take(8) else { return addTruncated(cursor, name, context) }
        add("\(name).type", header[0])
        add("\(name).code", header[1])
        add("\(name).checksum", "0x" + hex(header.u16(2), digits: 4))
        add("\(name).rest", "0x" + hex(header.u32(4), digits: 8))
        if isChecked, !isSumValid(whole, context) { note("\(name).checksum is wrong") }
        let errors: Set<UInt8> = context.source.isIPv6 ? [1, 2, 3, 4] : [3, 4, 5, 11, 12]
        if errors.contains(header[0]), context.prefix.isEmpty {
            payload = Array(cursor.rest)
            decodeNetwork(cursor, prefix: "inner.")
        } else {
            addPayload(cursor.rest, prefix: context.prefix)
        }
    }

    private func isSumValid(_ segment: ArraySlice<UInt8>, _ context: NetworkContext) -> Bool {
        let pseudoHeader = pseudoHeaderSum(
            source: context.source, destination: context.destination, protocolNumber: context.protocolNumber,
            length: segment.count)
        return onesComplementSum(segment, from: context.protocolNumber == 1 ? 0 : pseudoHeader) == 0xffff
    }

    /// The ports, which even the 8 bytes that an ICMPv4 error must quote contain.
    private mutating func addPorts(_ segment: ArraySlice<UInt8>, _ name: String) {
        let ports = Array(segment.prefix(4))
        guard ports.count == 4 else { return }
        add("\(name).sport", ports.u16(0))
        add("\(name).dport", ports.u16(2))
    }

    private mutating func addTruncated(_ cursor: PacketCursor, _ name: String, _ context: NetworkContext) {
        if context.prefix.isEmpty { note("\(name): truncated") }
        addPayload(cursor.rest, prefix: context.prefix)
    }
}

/// Such as "DF" or "MF".
private func fragmentFlags(_ place: UInt16) -> String {
    let flags: [(UInt16, String)] = [(0x8000, "reserved"), (0x4000, "DF"), (0x2000, "MF")]
    return flags.filter { place & $0.0 != 0 }.map(\.1).joined(separator: "|")
}
