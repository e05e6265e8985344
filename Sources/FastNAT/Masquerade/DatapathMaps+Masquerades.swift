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
                limits: limits[value.id] ?? FlowLimits())
        }.sorted { ($0.network.family.rawValue, $0.network) < ($1.network.family.rawValue, $1.network) }
    }

    /// Mends what a loader that was killed in the middle of a change has left: exemptions and limits of no masquerade, which a
    /// later one of the same number would have.
    func mend(_ present: [MasqueradeEntry]) throws {
        let known = Set(present.map(\.value.id))
        for key in try exemptions.keys() where !known.contains(UInt32(bigEndian: key.id)) {
            try exemptions.remove(key)
        }
        try mendLimits(of: MAX_MAPPINGS.rawValue..<UInt32.max, present: known)
    }

    /// Adds a masquerade whose network none of `present` has: exemptions and limits first, so that they hold from the first packet
    /// on.
    func insert(_ rule: MasqueradeRule, uplink: UInt32, source: IPAddress?, beside present: [MasqueradeEntry]) throws {
        let first = MAX_MAPPINGS.rawValue
        var ids = IdentifierPool(used: present.map(\.value.id), of: first..<first + MAX_MASQUERADES.rawValue)
        guard let id = try nextIdentifier(&ids) else {
            throw FastNATError.masqueradeTableFull(limit: Int(MAX_MASQUERADES.rawValue))
        }
        let value = masquerade(rule, uplink: uplink, id: id, present: source)
        try noteChange { $0.note(present.map(\.value) + [value]) }
        do {
            for prefix in rule.exempt {
                try throwingWhenFull(.exemptionTableFull(limit: Int(exemptions.capacity))) { () throws(BPFError) in
                    try exemptions.set(exemption_key(masquerade: id, prefix), 1)
                }
            }
            try setLimits(rule.limits, of: id)
            try masquerades.set(masquerade_key(rule.network), value, .create)
        } catch {
            try? setLimits(FlowLimits(), of: id)
            for prefix in rule.exempt { _ = try? exemptions.remove(exemption_key(masquerade: id, prefix)) }
            try? noteChange { $0.note(present.map(\.value)) }
            throw error
        }
    }

    /// Removes a masquerade; what is not there is removed already.
    func remove(_ entry: MasqueradeEntry) throws {
        try masquerades.remove(entry.key)
        for prefix in entry.exempt { try exemptions.remove(exemption_key(masquerade: entry.value.id, prefix)) }
        try setLimits(FlowLimits(), of: entry.value.id)
        let left = try masqueradeEntries().map(\.value)
        try noteChange { $0.note(left) }
    }
}

extension settings {
    /// Whether there are masquerades, and any that open ports to strangers.
    mutating func note(_ masquerades: [masquerade]) {
        has_masquerades = masquerades.isEmpty ? 0 : 1
        has_open_ports = masquerades.contains(where: \.hasOpenPorts) ? 1 : 0
    }
}
