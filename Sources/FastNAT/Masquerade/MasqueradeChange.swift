internal import Addresses
internal import CDatapath

/// A rule, and where it applies on this host now.
struct PlacedMasquerade {
    let rule: MasqueradeRule
    /// The uplink's index.
    let uplink: UInt32
    /// The address that the kernel sends from now, where the rule does not say one; nil: none.
    let source: IPAddress?
}

/// What is to become of the masquerades of one owner, checked against all others.
struct MasqueradeChange {
    /// An entry that comes, goes, or takes the place of another one of the same network.
    struct Move {
        let old: DatapathMaps.MasqueradeEntry?
        let new: PlacedMasquerade?
    }

    let owner: MappingOwner?
    /// Every masquerade that is there, of whoever.
    let present: [DatapathMaps.MasqueradeEntry]
    /// What is to be done, in an order in which every packet meets, at every moment, what was or what will be.
    let moves: [Move]
    /// Entries that were added by hand and become the owner's.
    private(set) var adoptions: [DatapathMaps.MasqueradeEntry] = []

    /// Adds to what is there. Throws `.masqueradeExists` when a network has a masquerade.
    init(adding new: [PlacedMasquerade], of owner: MappingOwner?, to present: [DatapathMaps.MasqueradeEntry])
        throws(FastNATError)
    {
        try Self.refuseRepetition(new, with: present)
        self.init(owner, present, new.map { Move(old: nil, new: $0) })
    }

    /// Leaves an owner with these masquerades and no others. Throws `.masqueradeExists` when a network has one of another owner.
    ///
    /// - Parameter adopting: make those that are there already, added by hand, the owner's.
    init(
        leaving owner: MappingOwner, with all: [PlacedMasquerade], among present: [DatapathMaps.MasqueradeEntry],
        adopting: Bool = false
    ) throws {
        let wanted = Dictionary(all.map { ($0.rule.network, $0) }) { first, _ in first }
        let adoptions = try present.filter { entry in
            guard adopting, entry.owner == nil, let new = wanted[entry.network] else { return false }
            return try entry.isSame(as: new)
        }
        let adopted = Set(adoptions.map(\.id))
        try Self.refuseRepetition(all, with: present.filter { $0.owner != owner && !adopted.contains($0.id) })
        let own = present.filter { $0.owner == owner }
        let old = Dictionary(uniqueKeysWithValues: (own + adoptions).map { ($0.network, $0) })
        let new = try all.filter { try old[$0.rule.network]?.isSame(as: $0) != true }
        let doomed = own.filter { wanted[$0.network] == nil }
        self.init(
            owner, present,
            new.map { Move(old: old[$0.rule.network], new: $0) } + doomed.map { Move(old: $0, new: nil) })
        self.adoptions = adoptions
    }

    /// Takes masquerades away.
    init(removing doomed: [DatapathMaps.MasqueradeEntry], from present: [DatapathMaps.MasqueradeEntry]) {
        self.init(nil, present, doomed.map { Move(old: $0, new: nil) })
    }

    private init(_ owner: MappingOwner?, _ present: [DatapathMaps.MasqueradeEntry], _ moves: [Move]) {
        self.owner = owner
        self.present = present
        self.moves = moves.map { ($0.order, $0) }.sorted { $0.0 < $1.0 }.map(\.1)
    }

    /// Whether there is nothing to do.
    var isEmpty: Bool { moves.isEmpty && adoptions.isEmpty }

    /// The masquerades that are not there yet.
    var new: [PlacedMasquerade] { moves.compactMap(\.new) }

    /// The entries that will be there no more.
    var gone: [DatapathMaps.MasqueradeEntry] { moves.compactMap(\.old) }

    /// The entries that are there before and after.
    var staying: [DatapathMaps.MasqueradeEntry] {
        let gone = Set(gone.map(\.id))
        return present.filter { !gone.contains($0.id) }
    }

    private static func refuseRepetition(_ new: [PlacedMasquerade], with present: [DatapathMaps.MasqueradeEntry])
        throws(FastNATError)
    {
        var taken = Dictionary(present.map { ($0.network, $0.owner) }) { first, _ in first }
        for network in new.map(\.rule.network) {
            if let owner = taken.updateValue(nil, forKey: network) { throw .masqueradeExists(network, owner: owner) }
        }
    }
}

extension MasqueradeChange.Move {
    /// When it is due, relative to others. A packet finds the longest network that holds its source: so first come new ones,
    /// also in the place of old ones, the longest first, and then old ones go, the shortest first.
    fileprivate var order: (Int, Int) {
        if let new { return (0, -new.rule.network.length) }
        return (1, old?.network.length ?? 0)
    }
}

extension DatapathMaps.MasqueradeEntry {
    /// Whether a rule, where it would apply now, is what this entry is already.
    fileprivate func isSame(as new: PlacedMasquerade) throws -> Bool {
        try value.uplink == new.uplink && rule(uplink: new.rule.uplink) == new.rule
    }
}
