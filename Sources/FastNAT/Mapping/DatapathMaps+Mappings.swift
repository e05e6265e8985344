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
        let owner: MappingOwner?

        var id: UInt32 { value.id }
        var isRange: Bool { mapping.listen.ports.count > 1 }
    }

    /// All mappings, sorted by protocol, port and address.
    func mappingEntries() throws -> [MappingEntry] {
        var allowed: [UInt32: [IPPrefix]] = [:]
        for key in try sources.keys() {
            allowed[UInt32(bigEndian: key.mapping_id), default: []].append(try key.prefix())
        }
        let owners = Dictionary(uniqueKeysWithValues: try owners.entries().map { ($0.key, $0.value) })
        let limits = try flowLimits()
        return try mappings.entries().map { key, value in
            let mapping = try PortMapping(
                key: key, value: value, allow: allowed[value.id] ?? [], limits: limits[value.id] ?? FlowLimits())
            return MappingEntry(
                key: key, value: value, mapping: mapping, owner: try owners[value.id].map(MappingOwner.init))
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

    /// Mends what a loader that was killed in the middle of a change has left: networks, owners and limits of no mapping, which a
    /// later mapping of the same number would have, and ranges whose beginning is not marked.
    func mend(_ present: [MappingEntry]) throws {
        let restricted = Set(present.filter { !$0.mapping.allow.isEmpty }.map(\.id))
        for key in try sources.keys() where !restricted.contains(UInt32(bigEndian: key.mapping_id)) {
            try sources.remove(key)
        }
        let owned = Set(present.filter { $0.owner != nil }.map(\.id))
        for id in try owners.keys() where id < mappings.capacity && !owned.contains(id) { try owners.remove(id) }
        try mendLimits(of: 0..<mappings.capacity, present: Set(present.map(\.id)))
        for entry in present where entry.isRange { try setRangeStart(entry.key, true) }
    }

    /// The writes of a change, in order.
    func steps(of change: MappingChange) throws -> [MappingStep] {
        var ids = IdentifierPool(used: change.present.map(\.id), of: 0..<mappings.capacity)
        let moves = try change.moves.flatMap { move in
            let new = try move.new.map { mapping in
                guard let id = try nextIdentifier(&ids) else {
                    throw FastNATError.mappingTableFull(limit: Int(mappings.capacity))
                }
                return MappingEntry(mapping, id: id, owner: move.owner)
            }
            return MappingStep.moving(move.old, to: new)
        }
        return moves + change.adoptions.compactMap { entry in change.owner.map { .own(entry.id, $0) } }
    }

    /// Carries out a change and then `rest`: all of it, or none.
    func carryOut(_ change: MappingChange, _ rest: () throws -> Void) throws {
        try mend(change.present)
        guard !change.isEmpty else { return try rest() }
        let present = change.present.map(\.mapping)
        let steps = try steps(of: change)
        let ids = change.present.map(\.id) + steps.compactMap(\.enteredMapping?.id)
        try take(
            steps, before: { $0.note(present) }, meanwhile: { $0.note(present + change.new) },
            after: {
                $0.note(change.result)
                $0.first_free_id = (ids.max() ?? 0) + 1
            }, rest)
    }

    /// Takes steps, and then does the rest; what fails takes back what came before it.
    ///
    /// - Parameters: what the settings say before, while both old and new entries are there, and after.
    func take(
        _ steps: [MappingStep], before: (inout settings) -> Void, meanwhile: (inout settings) -> Void,
        after: (inout settings) -> Void, _ rest: () throws -> Void
    ) throws {
        try noteChange(meanwhile)
        var done = 0
        do {
            for step in steps {
                try take(step)
                done += 1
            }
            try noteChange(after)
            try rest()
        } catch {
            try? noteChange(meanwhile)
            for step in steps[..<done].reversed() { try? take(step.inverse) }
            try? noteChange(before)
            throw error
        }
    }

    /// An identifier that no mapping, masquerade or flow has, its counters at zero and no next hop known; nil: there is none left.
    func nextIdentifier(_ ids: inout IdentifierPool) throws -> UInt32? {
        while let id = ids.next() {
            if try prepareIdentifier(id) { return id }
        }
        return nil
    }

    /// Has nothing left of who had the identifier before. false: flows of a removed mapping, which drain, still have it.
    func prepareIdentifier(_ id: UInt32) throws -> Bool {
        let counters = try counters(of: id)
        guard counters.opened == counters.closed else { return false }
        if counters.opened != 0 || counters.packets != 0 {
            try mappingCounters.setAll(id, mapping_counters())
            if id < MAX_MAPPINGS.rawValue { hops[Int(id)] = shared_hop() }
        }
        try limitDues.set(id, 0)
        return true
    }

    /// One write. What is to be removed and is not there is removed already.
    func take(_ step: MappingStep) throws {
        switch step {
        case .admit(let key): try admit(key)
        case .dismiss(let key): try sources.remove(key)
        case .own(let id, let owner): try owners.set(id, mapping_owner(owner))
        case .disown(let id, _): try owners.remove(id)
        case .limit(let id, let new): try setLimits(new, of: id)
        case .unlimit(let id, _): try setLimits(FlowLimits(), of: id)
        case .enter(let key, let value, let old): try enter(key, value, old == nil ? .create : .any)
        case .withdraw(let key, _): try mappings.remove(key)
        case .mark(let key): try setRangeStart(key, true)
        case .unmark(let key): try setRangeStart(key, false)
        case .exempt(let key): try exempt(key)
        case .include(let key): try exemptions.remove(key)
        case .masquerade(let key, let value, let old): try setMasquerade(key, value, old == nil ? .create : .any)
        case .release(let key, _): try masquerades.remove(key)
        }
    }

    private func enter(_ key: mapping_key, _ value: mapping, _ rule: UpdateRule) throws {
        try throwingWhenFull(.mappingTableFull(limit: Int(mappings.capacity))) { () throws(BPFError) in
            try mappings.set(key, value, rule)
        }
    }

    private func setMasquerade(_ key: masquerade_key, _ value: masquerade, _ rule: UpdateRule) throws {
        try throwingWhenFull(.masqueradeTableFull(limit: Int(masquerades.capacity))) { () throws(BPFError) in
            try masquerades.set(key, value, rule)
        }
    }

    private func exempt(_ key: exemption_key) throws {
        try throwingWhenFull(.exemptionTableFull(limit: Int(exemptions.capacity))) { () throws(BPFError) in
            try exemptions.set(key, 1)
        }
    }

    private func admit(_ key: source_key) throws {
        try throwingWhenFull(.allowListFull(limit: Int(sources.capacity))) { () throws(BPFError) in
            try sources.set(key, 1)
        }
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

    /// Tells the datapath which kinds of mappings and masquerades to look for, and that they have changed: flows that were
    /// begun with those of before and are not in the table yet will not stay there.
    func noteChange(_ note: (inout settings) -> Void) throws {
        var settings = try currentSettings()
        note(&settings)
        settings.mappings_version &+= 1
        try self.settings.set(0, settings)
    }
}

extension DatapathMaps.MappingEntry {
    /// A new one.
    init(_ mapping: PortMapping, id: UInt32, owner: MappingOwner?) {
        self.init(
            key: mapping_key(mapping.listen, family: mapping.family),
            value: CDatapath.mapping(mapping, id: id, client: Self.hostAddress(towards: mapping)), mapping: mapping,
            owner: owner)
    }

    /// This host's address towards a target of the other family than its clients; nil where none is needed or none is known.
    private static func hostAddress(towards mapping: PortMapping) -> IPAddress? {
        guard mapping.translates, var interfaces = try? Interfaces() else { return nil }
        return interfaces.hostAddress(towards: mapping.target.address)
    }
}

extension MappingStep {
    /// The mapping that the step enters.
    fileprivate var enteredMapping: mapping? {
        if case .enter(_, let value, _) = self { value } else { nil }
    }
}

extension settings {
    /// Whether there are mappings of one address, and of more than one port. Which identifiers are free, nobody knows until the
    /// change is complete.
    mutating func note(_ mappings: [PortMapping]) {
        first_free_id = 0
        has_addressed_mappings = mappings.contains { $0.listen.address != nil } ? 1 : 0
        has_ranges = mappings.contains { $0.listen.ports.count > 1 } ? 1 : 0
    }
}

/// Runs a write, and throws `full` when the map has no room: a hash map says E2BIG then, one of prefixes ENOSPC.
func throwingWhenFull(_ full: FastNATError, _ write: () throws(BPFError) -> Void) throws(FastNATError) {
    do throws(BPFError) {
        try write()
    } catch {
        throw [E2BIG, ENOSPC].contains(error.code) ? full : .bpf(error)
    }
}

/// Gives out identifiers that are not in use, each once, the lowest first.
struct IdentifierPool {
    private let used: Set<UInt32>
    private var candidates: Range<UInt32>

    init(used: [UInt32], of all: Range<UInt32>) {
        self.used = Set(used)
        candidates = all
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
