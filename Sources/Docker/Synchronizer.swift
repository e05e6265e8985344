public import Addresses
public import FastNAT

/// Makes fastnat do for containers and networks what Docker says, and nothing more for them. What others added is left alone.
public struct Synchronizer: Sendable {
    /// Whose everything is that this adds.
    public let owners: DockerOwners
    /// The uplink that masqueraded networks leave by; nil: that of the default route.
    public var uplink: String?
    /// Whether networks are masqueraded that Docker says are to be.
    public var masquerades = true
    /// Names of networks that are masqueraded whatever Docker says.
    public var masqueraded: Set<String> = []
    /// Publish also what local programs other than Docker's listen on.
    public var force = false

    /// One that acts for these owners.
    public init(of owners: DockerOwners) { self.owners = owners }

    /// What would be changed, and what would be left out.
    public func differences(to wanted: Publications) throws(FastNATError) -> SynchronizationResult {
        try differences(to: wanted, DockerSockets())
    }

    private func differences(to wanted: Publications, _ sockets: DockerSockets) throws(FastNATError)
        -> SynchronizationResult
    {
        let loaded = try LoadedDatapath(for: .read)
        var result = SynchronizationResult(wanted)
        result.note(try plan(wanted, loaded, sockets))
        result.note(try masqueradePlan(wanted, loaded))
        return result
    }

    /// Brings it about. Mappings change all together, so that a port may go from one container to another; each network changes
    /// by itself.
    ///
    /// - Parameter died: owners of containers that have died since the last time: if they are back, with the same ports, the UDP
    ///   flows of before end nevertheless.
    /// - Parameter freed: the addresses that these had: UDP flows that they began themselves end, too.
    /// - Parameter looksFirst: whether there may well be nothing to do: whoever only looks does not keep others from their work.
    public func synchronize(
        _ wanted: Publications, died: Set<MappingOwner> = [], freed: Set<IPAddress> = [], looksFirst: Bool = true
    ) throws(FastNATError) -> SynchronizationResult {
        let sockets = DockerSockets()
        if looksFirst, died.isEmpty {
            let look = try differences(to: wanted, sockets)
            if look.changes.isEmpty { return look }
        }
        let loaded = try LoadedDatapath(for: .change)
        var result = SynchronizationResult(wanted)
        let plan = try plan(wanted, loaded, sockets)
        try loaded.carryOut(plan)
        result.note(plan)
        for owner in died { try loaded.datapath.endUDPFlows(of: owner) }
        for address in freed { try loaded.datapath.endUDPFlows(from: address) }
        let networks = try masqueradePlan(wanted, loaded)
        result.note(networks, failures: networks.carryOut(loaded))
        return result
    }

    /// Plans the mappings. Of a range of which one port cannot be published, the others are.
    private func plan(
        _ wanted: Publications, _ loaded: borrowing LoadedDatapath, _ sockets: DockerSockets
    ) throws(FastNATError) -> OwnersPlan {
        let force = force
        var mappings = wanted.mappings
        while true {
            let plan = try loaded.plan(leaving: { owners.contains($0) }, with: mappings) { inode in
                force || sockets.contains(inode)
            }
            let halves = plan.refusals.reduce(into: [OwnedMapping: [OwnedMapping]]()) { halves, refusal in
                if refusal.reason.isOfOnePort { halves[refusal.mapping] = refusal.mapping.halves }
            }
            guard !halves.isEmpty else { return plan }
            mappings = mappings.flatMap { halves[$0] ?? [$0] }
        }
    }

    private func masqueradePlan(_ wanted: Publications, _ loaded: borrowing LoadedDatapath) throws(FastNATError)
        -> MasqueradePlan
    {
        var plan = MasqueradePlan(beside: try loaded.masquerades(), of: owners)
        for masquerade in wanted.masquerades
        where (masquerades && masquerade.isAsked) || masqueraded.contains(masquerade.name) {
            let found = uplink == nil ? try loaded.defaultUplink(masquerade.network.family) : uplink
            plan.add(masquerade, uplink: found)
        }
        return plan
    }
}

/// What a synchronization has changed, or would.
public struct SynchronizationResult: Sendable {
    /// One thing that comes, goes or changes.
    public struct Change: Sendable, Hashable {
        /// What, in a line that begins with `+`, `-` or `~`.
        public let text: String
        /// Whose it is.
        public let owner: String
        /// Docker's name of that container or network; nil when it has gone.
        public let name: String?
    }

    /// What comes, goes or changes.
    public private(set) var changes: [Change] = []
    /// What is left out.
    public private(set) var refusals: [Refusal]

    private let names: [MappingOwner: String]

    init(_ wanted: Publications) {
        names = wanted.names
        refusals = wanted.refusals
    }

    mutating func note(_ plan: OwnersPlan) {
        for difference in plan.differences { note(difference.change.description, of: difference.owner) }
        for refusal in plan.refusals {
            let (mapping, owner) = (refusal.mapping.mapping, refusal.mapping.owner)
            refuse(mapping.listen.description, of: owner, refusal.reason)
        }
    }

    mutating func note(_ plan: MasqueradePlan, failures: [MappingOwner: FastNATError] = [:]) {
        for difference in plan.differences where failures[difference.owner] == nil {
            note(difference.text, of: difference.owner)
        }
        for refusal in plan.refusals { refuse(refusal.network.description, of: refusal.owner, refusal.reason) }
        for (owner, error) in failures { refuse("masquerade", of: owner, error) }
    }

    private mutating func note(_ text: String, of owner: MappingOwner?) {
        changes.append(Change(text: text, owner: owner?.text ?? "", name: owner.flatMap { names[$0] }))
    }

    private mutating func refuse(_ what: String, of owner: MappingOwner, _ reason: any Error) {
        refusals.append(Refusal(subject: names[owner] ?? owner.text, what: what, reason: "\(reason)"))
    }
}
