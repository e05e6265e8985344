public import Testing

extension PacketView {
    /// Whether every checksum is right, an embedded packet's included as far as it is quoted. A UDP checksum of 0 is
    /// right in IPv4 only.
    public var checksumsAreValid: Bool { !problems.contains { $0.hasSuffix("checksum is wrong") } }
}

/// Whether a frame's checksums are all right; see `PacketView.problems` for which are not.
public func checksumsAreValid(_ frame: [UInt8]) -> Bool {
    PacketView(frame).checksumsAreValid
}

/// The fields that differ, one line each: `ip.ttl: expected 63, got 64`. Empty exactly if the bytes are equal.
public func diff(_ expected: [UInt8], _ actual: [UInt8]) -> [String] {
    if expected == actual { return [] }
    let (left, right) = (PacketView(expected), PacketView(actual))
    var lines: [String] = []
    for field in left.fields where right[field.name] != field.value {
        lines.append("\(field.name): expected \(field.value), got \(right[field.name] ?? "nothing")")
    }
    for field in right.fields where left[field.name] == nil {
        lines.append("\(field.name): unexpected \(field.value)")
    }
    lines += right.problems.filter { !left.problems.contains($0) }
    if lines.isEmpty { lines = ["expected:"] + hexDump(expected) + ["got:"] + hexDump(actual) }
    return lines
}

/// The fields in which the frame differs from the packet.
public func diff(_ expected: Packet, _ actual: [UInt8]) -> [String] {
    diff(expected.bytes, actual)
}

/// Records an issue that names the fields in which the frame differs from the packet.
public func expectEqualPackets(
    _ expected: Packet, _ actual: [UInt8], _ comment: Comment? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let lines = diff(expected, actual)
    if lines.isEmpty { return }
    let heading = comment.map { "\($0.rawValue): " } ?? ""
    Issue.record("\(heading)packets differ\n\(lines.joined(separator: "\n"))", sourceLocation: sourceLocation)
}

/// Sixteen bytes a line, offsets in front.
public func hexDump(_ bytes: [UInt8]) -> [String] {
    stride(from: 0, to: bytes.count, by: 16).map { start in
        let line = bytes[start..<min(start + 16, bytes.count)]
        return hex(start, digits: 4) + "  " + line.map { hex($0, digits: 2) }.joined(separator: " ")
    }
}
