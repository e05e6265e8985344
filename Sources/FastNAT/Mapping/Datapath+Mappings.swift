internal import BPF

// Changes of the mappings. Whoever makes them holds the state directory's exclusive lock.
extension Datapath {
    /// Adds mappings: all of them, or none. Throws `.overlap` when one claims a port of another, new or present.
    ///
    /// - Parameter owner: whose they are; nil for those that are added by hand.
    public func addMappings(_ new: [PortMapping], of owner: MappingOwner? = nil) throws(FastNATError) {
        try translating {
            if let addition = try maps.addition(of: new, owner: owner) {
                try maps.carryOut(addition) {}
            } else {
                try carryOut(try MappingChange(adding: new, of: owner, to: try maps.mappingEntries()))
            }
        }
    }

    /// Adds mappings in the place of those of the same owner that listen where they do, if there are any: all of it, or nothing.
    /// A packet finds the one or the other. Throws `.overlap` when one claims a port of any other mapping.
    ///
    /// - Parameter owner: whose they are; nil for those that are added by hand.
    public func replaceMappings(
        _ new: [PortMapping], of owner: MappingOwner? = nil, ending: FlowEnding = .drain
    ) throws(FastNATError) {
        try translating {
            try carryOut(try MappingChange(replacing: new, of: owner, among: try maps.mappingEntries()), ending)
        }
    }

    /// Leaves an owner with these mappings and no others: all of it, or nothing. Throws `.overlap` when one claims a port of
    /// another owner's.
    ///
    /// Mappings that are there already stay as they are, with their counters and flows. A port that is published before and
    /// after is published all the while. Flows of what is removed or changed end as with `removeMappings`. While the change
    /// lasts, there must be room for the old and the new mappings together.
    public func replaceMappings(of owner: MappingOwner, with new: [PortMapping]) throws(FastNATError) {
        try translating {
            try carryOut(try MappingChange(leaving: owner, with: new, among: try maps.mappingEntries()))
        }
    }

    /// Removes mappings. Their UDP flows end, so that none outlives its target; their TCP connections drain or are cut, their
    /// SCTP associations drain or end.
    ///
    /// - Parameter owner: whose they must be; nil: whoever's.
    public func removeMappings(
        _ listens: [Listen], of owner: MappingOwner? = nil, ending: FlowEnding = .drain
    ) throws(FastNATError) {
        try translating {
            let present = try maps.mappingEntries()
            let doomed = try listens.flatMap { listen throws(FastNATError) in
                let matches = present.filter {
                    $0.mapping.listen.isSame(as: listen) && (owner == nil || $0.owner == owner)
                }
                guard !matches.isEmpty else {
                    throw owner.map { .noMappingOf($0, listen) } ?? .noMapping(listen)
                }
                return matches
            }
            try carryOut(MappingChange(removing: doomed, from: present), ending)
        }
    }

    /// Removes every mapping of an owner, as `removeMappings(_:of:ending:)` does. Returns how many there were.
    @discardableResult
    public func removeMappings(
        of owner: MappingOwner, ending: FlowEnding = .drain
    ) throws(FastNATError) -> Int {
        try translating {
            let present = try maps.mappingEntries()
            let doomed = present.filter { $0.owner == owner }
            try carryOut(MappingChange(removing: doomed, from: present), ending)
            return doomed.count
        }
    }

    /// Ends the UDP flows of an owner's mappings, which stay.
    public func endUDPFlows(of owner: MappingOwner) throws(FastNATError) {
        try translating {
            let entries = try maps.mappingEntries().filter {
                $0.owner == owner && $0.mapping.listen.transport == .udp
            }
            try flush(entries.map(\.id))
        }
    }

    /// Removes every mapping, as `removeMappings(_:of:ending:)` does.
    public func removeAllMappings(ending: FlowEnding = .drain) throws(FastNATError) {
        try translating {
            let present = try maps.mappingEntries()
            try carryOut(MappingChange(removing: present, from: present), ending)
        }
    }

    /// Carries out a change and then `rest`, all of it or none, and ends the flows of mappings that went: those of UDP, and what
    /// is to be cut.
    func carryOut(_ change: MappingChange, _ ending: FlowEnding = .drain, _ rest: () throws -> Void = {}) throws {
        try maps.carryOut(change, rest)
        let ended = change.gone.filter { ending == .cut || !$0.mapping.listen.transport.hasHandshake }
        try flush(ended.map(\.id), ending)
    }
}
