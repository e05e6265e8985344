internal import CDatapath

/// One write to the maps of mappings and masquerades.
enum MappingStep {
    /// A network may connect to a mapping, or may no longer.
    case admit(source_key)
    case dismiss(source_key)
    /// A mapping or masquerade belongs to somebody, or to nobody.
    case own(UInt32, MappingOwner)
    case disown(UInt32, MappingOwner)
    /// The flows of a mapping are limited, or no longer.
    case limit(UInt32, FlowLimits)
    case unlimit(UInt32, FlowLimits)
    /// An entry of the datapath, alone or in the place of another one; no packet finds neither.
    case enter(mapping_key, mapping, inPlaceOf: mapping?)
    case withdraw(mapping_key, mapping)
    /// A range begins at the first port of a key, or none does.
    case mark(mapping_key)
    case unmark(mapping_key)
    /// Packets to a network are not masqueraded, or are.
    case exempt(exemption_key)
    case include(exemption_key)
    /// A network is masqueraded, with an entry alone or in the place of another one, or is not.
    case masquerade(masquerade_key, CDatapath.masquerade, inPlaceOf: CDatapath.masquerade?)
    case release(masquerade_key, CDatapath.masquerade)

    /// The step back.
    var inverse: MappingStep {
        switch self {
        case .admit(let key): .dismiss(key)
        case .dismiss(let key): .admit(key)
        case .own(let id, let owner): .disown(id, owner)
        case .disown(let id, let owner): .own(id, owner)
        case .limit(let id, let limits): .unlimit(id, limits)
        case .unlimit(let id, let limits): .limit(id, limits)
        case .enter(let key, let value, nil): .withdraw(key, value)
        case .enter(let key, let value, let old?): .enter(key, old, inPlaceOf: value)
        case .withdraw(let key, let value): .enter(key, value, inPlaceOf: nil)
        case .mark(let key): .unmark(key)
        case .unmark(let key): .mark(key)
        case .exempt(let key): .include(key)
        case .include(let key): .exempt(key)
        case .masquerade(let key, let value, nil): .release(key, value)
        case .masquerade(let key, let value, let old?): .masquerade(key, old, inPlaceOf: value)
        case .release(let key, let value): .masquerade(key, value, inPlaceOf: nil)
        }
    }

    /// What puts an entry in the place of another one, or where there is none, or takes one away. Sources come first, so that a
    /// restricted mapping is never open to all, and the entry of a range before its mark; removal goes the other way round.
    static func moving(_ old: DatapathMaps.MappingEntry?, to new: DatapathMaps.MappingEntry?) -> [MappingStep] {
        let (wasRange, isRange) = (old?.isRange ?? false, new?.isRange ?? false)
        var steps: [MappingStep] = []
        if let new {
            steps += belongings(of: new)
            steps.append(.enter(new.key, new.value, inPlaceOf: old?.value))
            if isRange && !wasRange { steps.append(.mark(new.key)) }
        }
        if let old {
            if wasRange && !isRange { steps.append(.unmark(old.key)) }
            if new == nil { steps.append(.withdraw(old.key, old.value)) }
            steps += belongings(of: old).map(\.inverse)
        }
        return steps
    }

    /// What an entry has beside itself.
    private static func belongings(of entry: DatapathMaps.MappingEntry) -> [MappingStep] {
        entry.mapping.allow.map { .admit(source_key(mapping: entry.id, $0)) }
            + (entry.owner.map { [.own(entry.id, $0)] } ?? [])
            + (entry.mapping.limits.isEmpty ? [] : [.limit(entry.id, entry.mapping.limits)])
    }
}
