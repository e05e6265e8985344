internal import BPF
internal import CDatapath

/// Mappings that come to others, of which is known that they are in nobody's way.
struct MappingAddition {
    let entries: [DatapathMaps.MappingEntry]

    /// A look-up for each port is quicker than reading all mappings, up to so many ports.
    fileprivate static let mostPorts = 64
}

extension DatapathMaps {
    /// What adding mappings takes, found out by few look-ups, however many mappings there are. nil: it may do, or not; it takes a
    /// look at all of them (`MappingChange`), because something is in the way, a change has been interrupted, or there is too much
    /// to look up.
    func addition(of new: [PortMapping], owner: MappingOwner?) throws -> MappingAddition? {
        let settings = try currentSettings()
        let first = settings.first_free_id
        guard first > 0, new.reduce(0, { $0 + $1.listen.ports.count }) <= MappingAddition.mostPorts,
            Int(first) + new.count <= Int(mappings.capacity), !Self.anyOverlap(new)
        else { return nil }
        for (mapping, id) in zip(new, first...) {
            guard try !isInTheWay(of: mapping, ranges: settings.has_ranges != 0), try prepareIdentifier(id) else {
                return nil
            }
        }
        return MappingAddition(entries: zip(new, first...).map { MappingEntry($0, id: $1, owner: owner) })
    }

    private static func anyOverlap(_ mappings: [PortMapping]) -> Bool {
        mappings.indices.contains { index in mappings[..<index].contains { $0.overlaps(mappings[index]) } }
    }

    /// Whether a mapping has one of these ports already.
    private func isInTheWay(of mapping: PortMapping, ranges hasRanges: Bool) throws -> Bool {
        var key = mapping_key(mapping.listen, family: mapping.family)
        let (first, last) = (mapping.listen.ports.first, mapping.listen.ports.last)
        for port in first...last {
            key.port = port.bigEndian
            if try mappings.value(key) != nil { return true }
        }
        guard hasRanges, let start = try ranges.value(range_key(key))?.last(before: first) else { return false }
        key.port = start.bigEndian
        return try mappings.value(key).map { UInt16(bigEndian: $0.port_end) >= first } ?? true
    }

    /// Carries out an addition and then `rest`: all of it, or none.
    func carryOut(_ addition: MappingAddition, _ rest: () throws -> Void) throws {
        guard let last = addition.entries.last else { return try rest() }
        let before = try currentSettings()
        try take(
            addition.entries.flatMap { MappingStep.moving(nil, to: $0) },
            before: { $0.noteKinds(of: before) }, meanwhile: { $0.note(adding: addition.entries.map(\.mapping)) },
            after: { $0.first_free_id = last.id + 1 }, rest)
    }
}

extension settings {
    /// What `note(_:)` says of those that are there and these.
    fileprivate mutating func note(adding mappings: [PortMapping]) {
        let present = self
        note(mappings)
        has_addressed_mappings |= present.has_addressed_mappings
        has_ranges |= present.has_ranges
    }

    fileprivate mutating func noteKinds(of other: settings) {
        has_addressed_mappings = other.has_addressed_mappings
        has_ranges = other.has_ranges
    }
}

extension range_starts {
    /// The last range that begins before `port`.
    fileprivate func last(before port: UInt16) -> UInt16? {
        withUnsafeBytes(of: words) { bytes in
            let words = bytes.bindMemory(to: UInt64.self)
            var word = Int(port) / 64
            var bits = words[word] & ((1 << (UInt64(port) % 64)) - 1)
            while bits == 0, word > 0 {
                word -= 1
                bits = words[word]
            }
            return bits == 0 ? nil : UInt16(word * 64 + 63 - bits.leadingZeroBitCount)
        }
    }
}
