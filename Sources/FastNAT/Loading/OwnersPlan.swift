internal import Addresses
internal import BPF
internal import Netlink

/// What it takes to leave all owners of a kind with certain mappings. Making it changes nothing.
public struct OwnersPlan {
    /// A difference between what is and what is to be.
    public struct Difference: Sendable {
        /// What comes, goes or changes.
        public let change: StateChange
        /// Whose it is afterwards, or was.
        public let owner: MappingOwner?
    }

    /// A mapping that is left out.
    public struct Refusal: Sendable {
        /// The mapping.
        public let mapping: OwnedMapping
        /// Why.
        public let reason: FastNATError
    }

    /// What would be done.
    public let differences: [Difference]
    /// What is left out.
    public let refusals: [Refusal]

    let change: MappingChange
    let outputs: [Link]
}

extension LoadedDatapath {
    /// Plans to leave all owners of a kind with these mappings and no others. A mapping that cannot be published is left out, and
    /// the others are not: one that claims a port of somebody else's or of one before it, that a local program listens on, or
    /// whose target cannot be reached. Mappings that are there already stay, whether or not that is so.
    ///
    /// - Parameter isOurs: which owners are meant. Those of which `wanted` has nothing are left with nothing.
    /// - Parameter isStandIn: whether the socket of this inode may be shadowed.
    public func plan(
        leaving isOurs: (MappingOwner) -> Bool, with wanted: [OwnedMapping],
        shadowing isStandIn: (UInt32) -> Bool = { _ in false }
    ) throws(FastNATError) -> OwnersPlan {
        try translating {
            let present = try datapath.maps.mappingEntries()
            var check = try PublishCheck(beside: present.filter { !$0.isOwned(isOurs) }, uplinks: try currentUplinks())
            let ours = Set(present.compactMap { entry in entry.owner.map { OwnedMapping(entry.mapping, of: $0) } })
            var (accepted, refusals): ([OwnedMapping], [OwnersPlan.Refusal]) = ([], [])
            // What is there comes first: it is not to lose its port to what would like to have it.
            for mapping in wanted.filter(ours.contains) + wanted.filter({ !ours.contains($0) }) {
                do throws(FastNATError) {
                    try check.admit(mapping.mapping, isPresent: ours.contains(mapping), isStandIn)
                    accepted.append(mapping)
                } catch {
                    refusals.append(.init(mapping: mapping, reason: error))
                }
            }
            let change = try MappingChange(leaving: isOurs, with: accepted, among: present)
            return OwnersPlan(
                differences: change.moves.compactMap { move in
                    move.difference.map { .init(change: $0, owner: move.owner ?? move.old?.owner) }
                },
                refusals: refusals, change: change, outputs: check.outputs)
        }
    }

    /// Carries out a plan that was made under the same lock: all of it, or nothing. `Datapath.replaceMappings` says what becomes
    /// of flows.
    public func carryOut(_ plan: OwnersPlan) throws(FastNATError) {
        try translating { try connecting(plan.outputs) { try datapath.carryOut(plan.change) } }
    }
}

/// A port that a mapping listens on.
private struct Claim: Hashable {
    let transport: TransportProtocol
    let family: IPFamily
    let address: IPAddress?
    let port: UInt16

    static func all(of mapping: PortMapping) -> [Claim] {
        let listen = mapping.listen
        return (listen.ports.first...listen.ports.last).map {
            Claim(transport: listen.transport, family: mapping.family, address: listen.address, port: $0)
        }
    }
}

/// Decides, mapping by mapping, what can be published.
private struct PublishCheck {
    private let others: OverlapIndex
    private let owners: [PortMapping: MappingOwner?]
    private let uplinks: [Link]
    private var listeners: LocalListeners?
    private var accepted: [Claim: PortMapping] = [:]
    private var found: [IPAddress: Link] = [:]

    /// The interfaces that new mappings lead to.
    var outputs: [Link] {
        Dictionary(found.values.map { ($0.index, $0) }) { first, _ in first }.values.sorted { $0.index < $1.index }
    }

    init(beside others: [DatapathMaps.MappingEntry], uplinks: [Link]) throws {
        self.others = OverlapIndex(others.map(\.mapping))
        owners = Dictionary(others.map { ($0.mapping, $0.owner) }) { first, _ in first }
        self.uplinks = uplinks
    }

    /// Takes a mapping in, or throws why it cannot be published.
    mutating func admit(_ mapping: PortMapping, isPresent: Bool, _ isStandIn: (UInt32) -> Bool) throws(FastNATError) {
        if let other = others.overlap(with: mapping) {
            throw .overlap(mapping, with: other, owner: owners[other] ?? nil)
        }
        let claims = Claim.all(of: mapping)
        for claim in claims {
            if let other = accepted[claim] { throw .overlap(mapping, with: other, owner: nil) }
        }
        if !isPresent {
            let known: LocalListeners
            if let listeners { known = listeners } else { known = try LocalListeners() }
            listeners = known
            try known.refuseShadowing(by: mapping, except: isStandIn)
            try reach(mapping)
        }
        for claim in claims { accepted[claim] = mapping }
    }

    private mutating func reach(_ mapping: PortMapping) throws(FastNATError) {
        let target = mapping.target.address
        let known = found[target]
        let links = try translating { () -> [Link] in
            let links = try known.map { [$0] } ?? LoadedDatapath.outputs(towards: [mapping.target.address])
            try LoadedDatapath.requireForwarding([mapping.family, target.family], from: uplinks + links)
            return links
        }
        for link in links { found[target] = link }
    }
}
