internal import Addresses
internal import BPF
internal import CDatapath
internal import Glibc

/// The mappings in the datapath's maps. Whoever changes them holds the state directory's exclusive lock.
extension DatapathMaps {
    /// An entry as the datapath has it.
    struct MappingEntry {
        let key: mapping_key
        let value: mapping
        let mapping: PortMapping
    }

    /// All mappings, sorted by protocol, port and address.
    func mappingEntries() throws -> [MappingEntry] {
        var allowed: [UInt32: [IPPrefix]] = [:]
        for key in try sources.keys() {
            allowed[UInt32(bigEndian: key.mapping_id), default: []].append(try key.prefix())
        }
        return try mappings.entries().map { key, value in
            let allow = allowed[value.id] ?? []
            return MappingEntry(key: key, value: value, mapping: try PortMapping(key: key, value: value, allow: allow))
        }.sorted { Self.order($0.mapping) < Self.order($1.mapping) }
    }

    private static func order(_ mapping: PortMapping) -> (UInt8, UInt16, UInt8, String) {
        let listen = mapping.listen
        return (
            listen.transport.rawValue, listen.ports.first, mapping.family.rawValue, listen.address?.description ?? ""
        )
    }

    /// A mapping's counters, over all CPUs.
    func counters(of id: UInt32) throws(BPFError) -> mapping_counters {
        try mappingCounters.values(id).reduce(into: mapping_counters()) { sum, value in
            sum.packets += value.packets
            sum.bytes += value.bytes
            sum.opened &+= value.opened
            sum.closed &+= value.closed
        }
    }

    /// Mends what a loader that was killed in the middle of a change has left: networks of no mapping, which a later mapping
    /// of the same number would let in, and ranges whose beginning is not marked.
    func mend(_ present: [MappingEntry]) throws {
        let restricted = Set(present.filter { !$0.mapping.allow.isEmpty }.map(\.value.id))
        for key in try sources.keys() where !restricted.contains(UInt32(bigEndian: key.mapping_id)) {
            try sources.remove(key)
        }
        for entry in present where entry.mapping.listen.ports.count > 1 { try setRangeStart(entry.key, true) }
    }

    /// Adds mappings that are known not to overlap: all of them, or none.
    func insert(_ new: [PortMapping], beside present: [MappingEntry]) throws {
        var ids = IdentifierPool(used: present.map(\.value.id), limit: Int(mappings.capacity))
        var inserted: [(mapping_key, mapping, PortMapping)] = []
        try noteKinds(of: present.map(\.mapping) + new)
        do {
            for mapping in new {
                let id = try nextIdentifier(&ids)
                let entry = (
                    mapping_key(mapping.listen, family: mapping.family), CDatapath.mapping(mapping, id: id), mapping
                )
                inserted.append(entry)
                try insert(entry)
            }
        } catch {
            for entry in inserted { try? remove(entry.0, entry.1.id, entry.2) }
            try? noteKinds(of: present.map(\.mapping))
            throw error
        }
    }

    /// An identifier that no mapping and no flow has, its counters at zero.
    private func nextIdentifier(_ ids: inout IdentifierPool) throws -> UInt32 {
        while let id = ids.next() {
            let counters = try counters(of: id)
            guard counters.opened == counters.closed else { continue }  // flows of a removed mapping drain
            if counters.opened != 0 || counters.packets != 0 { try mappingCounters.setAll(id, mapping_counters()) }
            return id
        }
        throw FastNATError.mappingTableFull(limit: Int(mappings.capacity))
    }

    /// Sources first, so that a restricted mapping is never open to all; the entry of a range before its start bit.
    private func insert(_ entry: (key: mapping_key, value: mapping, mapping: PortMapping)) throws {
        for prefix in entry.mapping.allow {
            try allow(prefix, of: entry.value.id)
        }
        try mappings.set(entry.key, entry.value, .create)
        if entry.mapping.listen.ports.count > 1 { try setRangeStart(entry.key, true) }
    }

    private func allow(_ prefix: IPPrefix, of id: UInt32) throws {
        try throwingWhenFull(.allowListFull(limit: Int(sources.capacity))) { () throws(BPFError) in
            try sources.set(source_key(mapping: id, prefix), 1)
        }
    }

    /// Removes a mapping; what is not there is removed already.
    func remove(_ key: mapping_key, _ id: UInt32, _ mapping: PortMapping) throws {
        if mapping.listen.ports.count > 1 { try setRangeStart(key, false) }
        try mappings.remove(key)
        for prefix in mapping.allow { try sources.remove(source_key(mapping: id, prefix)) }
    }

    private func setRangeStart(_ key: mapping_key, _ isStart: Bool) throws {
        let owner = range_key(key)
        var starts = try ranges.value(owner) ?? .empty
        if starts.set(UInt16(bigEndian: key.port), isStart) {
            try throwingWhenFull(.rangeTableFull(limit: Int(ranges.capacity))) { () throws(BPFError) in
                try ranges.set(owner, starts)
            }
        } else {
            try ranges.remove(owner)
        }
    }

    /// Tells the datapath which kinds of mappings to look for, and that they have changed: flows that were begun with the
    /// mappings of before and are not in the table yet will not stay there.
    func noteKinds(of mappings: [PortMapping]) throws {
        var settings = try currentSettings()
        settings.has_addressed_mappings = mappings.contains { $0.listen.address != nil } ? 1 : 0
        settings.has_ranges = mappings.contains { $0.listen.ports.count > 1 } ? 1 : 0
        settings.mappings_version &+= 1
        try self.settings.set(0, settings)
    }
}

/// Runs a write, and throws `full` when the map has no room: a hash map says E2BIG then, one of prefixes ENOSPC.
private func throwingWhenFull(_ full: FastNATError, _ write: () throws(BPFError) -> Void) throws(FastNATError) {
    do throws(BPFError) {
        try write()
    } catch {
        throw [E2BIG, ENOSPC].contains(error.code) ? full : .bpf(error)
    }
}

/// Gives out identifiers that are not in use, each once, the lowest first.
private struct IdentifierPool {
    private let used: Set<UInt32>
    private var candidates: Range<UInt32>

    init(used: [UInt32], limit: Int) {
        self.used = Set(used)
        candidates = 0..<UInt32(limit)
    }

    mutating func next() -> UInt32? {
        while let candidate = candidates.popFirst() {
            if !used.contains(candidate) { return candidate }
        }
        return nil
    }
}

extension source_key {
    func prefix() throws -> IPPrefix {
        let value = source.value
        return try IPPrefix(value, length: Int(prefix_length) - 32 - (128 - value.family.bitWidth))
    }
}
