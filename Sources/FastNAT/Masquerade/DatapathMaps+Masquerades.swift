internal import Addresses
internal import BPF
internal import CDatapath

/// The masquerades in the datapath's maps. Whoever changes them holds the state directory's exclusive lock.
extension DatapathMaps {
    /// An entry as the datapath has it.
    struct MasqueradeEntry {
        let key: masquerade_key
        let value: masquerade
        let network: IPPrefix
        let exempt: [IPPrefix]
        let limits: FlowLimits
        let owner: MappingOwner?

        var id: UInt32 { value.id }

        /// The rule that it stands for, with the name of the uplink.
        func rule(uplink: String) throws -> MasqueradeRule {
            try value.rule(network: network, uplink: uplink, exempt: exempt, limits: limits)
        }
    }

    /// All masquerades, sorted by network.
    func masqueradeEntries() throws -> [MasqueradeEntry] {
        var exempt: [UInt32: [IPPrefix]] = [:]
        for key in try exemptions.keys() { exempt[UInt32(bigEndian: key.id), default: []].append(try key.prefix()) }
        let limits = try flowLimits()
        return try masquerades.keys().compactMap { key in
            guard let value = try masquerades.value(key) else { return nil }
            return MasqueradeEntry(
                key: key, value: value, network: try key.network(), exempt: (exempt[value.id] ?? []).sorted(),
                limits: limits[value.id] ?? FlowLimits(), owner: try owners.value(value.id).map(MappingOwner.init))
        }.sorted { ($0.network.family.rawValue, $0.network) < ($1.network.family.rawValue, $1.network) }
    }

    /// Mends what a loader that was killed in the middle of a change has left: exemptions, owners and limits of no masquerade,
    /// which a later one of the same number would have.
    private func mend(_ present: [MasqueradeEntry]) throws {
        let known = Set(present.map(\.id))
        for key in try exemptions.keys() where !known.contains(UInt32(bigEndian: key.id)) {
            try exemptions.remove(key)
        }
        let owned = Set(present.filter { $0.owner != nil }.map(\.id))
        for id in try owners.keys() where id >= MAX_MAPPINGS.rawValue && !owned.contains(id) { try owners.remove(id) }
        try mendLimits(of: MAX_MAPPINGS.rawValue..<UInt32.max, present: known)
    }

    /// The writes of a change, in order.
    func steps(of change: MasqueradeChange) throws -> [MappingStep] {
        let first = MAX_MAPPINGS.rawValue
        var ids = IdentifierPool(used: change.present.map(\.id), of: first..<first + MAX_MASQUERADES.rawValue)
        let moves = try change.moves.flatMap { move in
            let new = try move.new.map { new in
                guard let id = try nextIdentifier(&ids) else {
                    throw FastNATError.masqueradeTableFull(limit: Int(MAX_MASQUERADES.rawValue))
                }
                return MasqueradeEntry(
                    key: masquerade_key(new.rule.network),
                    value: masquerade(new.rule, uplink: new.uplink, id: id, present: new.source),
                    network: new.rule.network, exempt: new.rule.exempt, limits: new.rule.limits, owner: change.owner)
            }
            return MappingStep.moving(move.old, to: new)
        }
        return moves + change.adoptions.compactMap { entry in change.owner.map { .own(entry.id, $0) } }
    }

    /// Carries out a change and then `rest`: all of it, or none.
    func carryOut(_ change: MasqueradeChange, _ rest: () throws -> Void) throws {
        try mend(change.present)
        guard !change.isEmpty else { return try rest() }
        let steps = try steps(of: change)
        let present = change.present.map(\.value)
        let new = steps.compactMap(\.enteredMasquerade)
        try take(
            steps, before: { $0.note(present) }, meanwhile: { $0.note(present + new) },
            after: { $0.note(change.staying.map(\.value) + new) }, rest)
    }
}

extension MappingStep {
    /// What puts a masquerade in the place of another one of its network, or where there is none, or takes one away. Exemptions
    /// and limits come first, so that they hold from the first packet on; removal goes the other way round.
    fileprivate static func moving(_ old: DatapathMaps.MasqueradeEntry?, to new: DatapathMaps.MasqueradeEntry?)
        -> [MappingStep]
    {
        var steps: [MappingStep] = []
        if let new { steps += belongings(of: new) + [.masquerade(new.key, new.value, inPlaceOf: old?.value)] }
        if let old {
            if new == nil { steps.append(.release(old.key, old.value)) }
            steps += belongings(of: old).map(\.inverse)
        }
        return steps
    }

    private static func belongings(of entry: DatapathMaps.MasqueradeEntry) -> [MappingStep] {
        entry.exempt.map { .exempt(exemption_key(masquerade: entry.id, $0)) }
            + (entry.owner.map { [.own(entry.id, $0)] } ?? [])
            + (entry.limits.isEmpty ? [] : [.limit(entry.id, entry.limits)])
    }

    fileprivate var enteredMasquerade: masquerade? {
        if case .masquerade(_, let value, _) = self { value } else { nil }
    }
}

extension settings {
    /// Whether there are masquerades, and any that keep ports for containers.
    mutating func note(_ masquerades: [masquerade]) {
        has_masquerades = masquerades.isEmpty ? 0 : 1
        has_endpoints = masquerades.contains(where: \.isEndpointIndependent) ? 1 : 0
    }
}
