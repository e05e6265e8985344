internal import Addresses

/// What is to become of the mappings of one owner, or of several, checked against all others.
struct MappingChange {
    /// An entry that comes, goes, or takes the place of another one with the same address, first port and protocol.
    struct Move {
        let old: DatapathMaps.MappingEntry?
        let new: PortMapping?
        /// Whose the new one is.
        let owner: MappingOwner?
    }

    /// Whose adopted entries become.
    private(set) var owner: MappingOwner?
    /// Every mapping that is there, of whoever.
    let present: [DatapathMaps.MappingEntry]
    /// What is to be done, in an order in which every packet meets, at every moment, what was or what will be: a port that is
    /// published before and after is published all the while, and always for one of the two targets.
    let moves: [Move]
    /// Entries that were added by hand and become the owner's.
    private(set) var adoptions: [DatapathMaps.MappingEntry] = []

    /// Adds to what is there. Throws `.overlap` when a new mapping claims a port of another, new or present.
    init(adding new: [PortMapping], of owner: MappingOwner?, to present: [DatapathMaps.MappingEntry])
        throws(FastNATError)
    {
        try Self.refuseOverlaps(new, with: present)
        self.init(present, new.map { Move(old: nil, new: $0, owner: owner) })
    }

    /// Adds to what is there, in the place of the owner's mappings that listen where a new one does. Throws `.overlap` when one
    /// claims a port of any other.
    init(replacing new: [PortMapping], of owner: MappingOwner?, among present: [DatapathMaps.MappingEntry])
        throws(FastNATError)
    {
        let listens = Set(new.map(\.listen))
        let replaced = present.filter { $0.owner == owner && listens.contains($0.mapping.listen) }
        let ids = Set(replaced.map(\.id))
        try Self.refuseOverlaps(new, with: present.filter { !ids.contains($0.id) })
        let old = Dictionary(uniqueKeysWithValues: replaced.map { ($0.mapping.listen, $0) })
        self.init(present, new.map { Move(old: old[$0.listen], new: $0, owner: owner) })
    }

    /// Leaves an owner with these mappings and no others. Throws `.overlap` when one claims a port of another owner's.
    ///
    /// - Parameter adopting: make those that are there already, added by hand, the owner's.
    init(
        leaving owner: MappingOwner, with all: [PortMapping], among present: [DatapathMaps.MappingEntry],
        adopting: Bool = false
    ) throws(FastNATError) {
        let wanted = adopting ? Set(all) : []
        let adoptions = present.filter { $0.owner == nil && wanted.contains($0.mapping) }
        let adopted = Set(adoptions.map(\.mapping))
        let new = all.filter { !adopted.contains($0) }
        try Self.refuseOverlaps(all, with: present.filter { $0.owner != owner && !adopted.contains($0.mapping) })
        self.init(present, present.filter { $0.owner == owner }, becoming: new.map { OwnedMapping($0, of: owner) })
        self.owner = owner
        self.adoptions = adoptions
    }

    /// Leaves all owners of a kind with these mappings and no others: a port may go from one of them to another. Throws `.overlap`
    /// when a mapping claims a port of somebody else's.
    init(
        leaving isOurs: (MappingOwner) -> Bool, with all: [OwnedMapping], among present: [DatapathMaps.MappingEntry]
    ) throws(FastNATError) {
        let ours = present.filter { $0.isOwned(isOurs) }
        try Self.refuseOverlaps(all.map(\.mapping), with: present.filter { !$0.isOwned(isOurs) })
        self.init(present, ours, becoming: all)
    }

    /// Takes mappings away.
    init(removing doomed: [DatapathMaps.MappingEntry], from present: [DatapathMaps.MappingEntry]) {
        self.init(present, doomed.map { Move(old: $0, new: nil, owner: nil) })
    }

    /// Makes `new` of the entries `ours`; what is equal stays.
    private init(
        _ present: [DatapathMaps.MappingEntry], _ ours: [DatapathMaps.MappingEntry], becoming new: [OwnedMapping]
    ) {
        var old: [Place: DatapathMaps.MappingEntry] = [:]
        for entry in ours { old[Place(entry.mapping)] = entry }
        let pairs = new.map { Move(old: old.removeValue(forKey: Place($0.mapping)), new: $0.mapping, owner: $0.owner) }
        let changed = pairs.filter { $0.old?.mapping != $0.new || $0.old?.owner != $0.owner }
        self.init(present, changed + old.values.map { Move(old: $0, new: nil, owner: nil) })
    }

    private init(_ present: [DatapathMaps.MappingEntry], _ moves: [Move]) {
        self.present = present
        let (old, new) = (OverlapIndex(moves.compactMap(\.old?.mapping)), OverlapIndex(moves.compactMap(\.new)))
        self.moves = moves.map { ($0.order(old, new), $0) }.sorted { $0.0 < $1.0 }.map(\.1)
    }

    /// Whether there is nothing to do.
    var isEmpty: Bool { moves.isEmpty && adoptions.isEmpty }

    /// The mappings that are not there yet.
    var new: [PortMapping] { moves.compactMap(\.new) }

    /// The entries that will be there no more.
    var gone: [DatapathMaps.MappingEntry] { moves.compactMap(\.old) }

    /// The mappings that are there afterwards.
    var result: [PortMapping] {
        let gone = Set(gone.map(\.id))
        return present.filter { !gone.contains($0.id) }.map(\.mapping) + new
    }

    private static func refuseOverlaps(_ new: [PortMapping], with present: [DatapathMaps.MappingEntry])
        throws(FastNATError)
    {
        let index = OverlapIndex(present.map(\.mapping))
        for mapping in new {
            guard let other = index.overlap(with: mapping) else { continue }
            throw .overlap(mapping, with: other, owner: present.first { $0.mapping == other }?.owner)
        }
        let sorted = new.sorted { $0.listen.ports.first < $1.listen.ports.first }
        for (index, mapping) in sorted.enumerated() {
            for other in sorted[(index + 1)...].prefix(while: { $0.listen.ports.first <= mapping.listen.ports.last })
            where mapping.overlaps(other) {
                throw .overlap(other, with: mapping, owner: nil)
            }
        }
    }
}

extension DatapathMaps.MappingEntry {
    /// Whether it has an owner, and one of that kind.
    func isOwned(_ isOurs: (MappingOwner) -> Bool) -> Bool { owner.map(isOurs) ?? false }
}

/// What the key of an entry is made of.
private struct Place: Hashable {
    let address: IPAddress?
    let family: IPFamily
    let transport: TransportProtocol
    let port: UInt16

    init(_ mapping: PortMapping) {
        address = mapping.listen.address
        family = mapping.family
        transport = mapping.listen.transport
        port = mapping.listen.ports.first
    }
}

extension MappingChange.Move {
    /// When it is due, relative to others.
    ///
    /// A packet finds the range of its address that begins last at or below its port, and only when that one does not reach the
    /// port, the same of any address. So
    /// - a new range hides an old one above its own end: new ones come from the highest port down, so that those which publish
    ///   what is hidden are there already;
    /// - an old one hides a new one that begins below it: old ones go from the lowest port up;
    /// - what has an address covers what has none while that changes: first comes what makes it cover more, a new range as
    ///   well as the end of old ones within it, and last what makes it cover less, a new range within an old one too.
    fileprivate func order(_ allOld: OverlapIndex, _ allNew: OverlapIndex) -> (Int, Int) {
        guard let mapping = new ?? old?.mapping else { return (0, 0) }
        let isAddressed = mapping.listen.address != nil
        let port = Int(mapping.listen.ports.first)
        return switch (old?.mapping.listen.ports, new?.listen.ports) {
        case (nil, _): (!isAddressed ? 3 : allOld.encloses(mapping) ? 6 : 0, -port)
        case (let old?, let new?): (!isAddressed ? 4 : new.last < old.last ? 7 : 1, port)
        case (_, nil): (!isAddressed ? 5 : allNew.encloses(mapping) ? 2 : 8, port)
        }
    }
}

extension OverlapIndex {
    /// Whether a mapping begins before `mapping` and ends after it.
    fileprivate func encloses(_ mapping: PortMapping) -> Bool {
        guard let other = overlap(with: mapping)?.listen.ports else { return false }
        return other.first < mapping.listen.ports.first && other.last > mapping.listen.ports.last
    }
}
