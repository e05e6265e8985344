internal import Addresses
internal import CDatapath
internal import Netlink

/// What is to become of the masquerades when a state is brought about, found possible.
struct MasqueradePlan {
    let change: MasqueradeChange
    /// Where the new networks are.
    let outputs: [Link]
    /// Whether it takes an uplink that is not attached to yet: answers would be lost until it is.
    let needsNewUplink: Bool

    /// - Parameter uplinks: those that there will be.
    init(_ rules: [MasqueradeRule], of owner: MappingOwner, uplinks: [Link], from present: StatePlan.Present?) throws {
        let indices = Set(uplinks.map(\.index))
        change = try MasqueradeChange(
            leaving: owner, with: try LoadedDatapath.placed(rules, uplinks: indices),
            among: present?.masquerades ?? [], adopting: true)
        outputs = try LoadedDatapath.checkedOutputs(of: change, uplinks: indices)
        try LoadedDatapath.requireForwarding(
            Set(change.new.map(\.rule.network.family)), from: change.new.isEmpty ? [] : uplinks + outputs)
        let attached = Set(
            (present?.attachments ?? []).filter { $0.role == .uplink && $0.hook != .xdp }.map(\.interfaceIndex))
        needsNewUplink = change.new.contains { !attached.contains($0.uplink) }
    }

    /// What the change consists of, for people.
    func differences() throws -> [StateChange] {
        var interfaces = try Interfaces()
        func rule(_ entry: DatapathMaps.MasqueradeEntry) throws -> MasqueradeRule {
            let uplink = entry.value.uplink
            return try entry.rule(uplink: interfaces.link(uplink)?.name ?? "#\(uplink)")
        }
        let moves = try change.moves.compactMap { move -> StateChange? in
            switch (try move.old.map(rule), move.new?.rule) {
            case (nil, let new?): .masquerade(new)
            case (let old?, let new?): .changeMasquerade(old, to: new)
            case (let old?, nil): .removeMasquerade(old)
            case (nil, nil): nil
            }
        }
        return try change.adoptions.map { .adoptMasquerade(try rule($0)) } + moves
    }
}
