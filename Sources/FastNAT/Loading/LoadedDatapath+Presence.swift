public import Addresses
internal import BPF
internal import Netlink

// For who loads fastnat when he needs it, and keeps an eye on what is his.

extension Loader {
    /// Throws what would stop a load of these uplinks before it changes anything.
    public static func refuseImpossible(_ request: LoadRequest) throws(FastNATError) {
        try Requirements.check()
        try translating { _ = try AttachmentPlan(request) }
    }

    /// The interfaces that default routes lead through and that can be uplinks, those of `family` alone when one is given.
    public static func defaultUplinks(_ family: IPFamily? = nil) throws(FastNATError) -> [String] {
        try translating {
            var interfaces = try Interfaces()
            return try interfaces.defaultUplinks(family.map { [$0] } ?? IPFamily.allCases)
        }
    }
}

extension Attachments {
    /// The interfaces that are uplinks, and still have the program.
    func liveUplinks() -> Set<UInt32> {
        Set(all().filter { $0.role == .uplink && $0.hook != .xdp && isAlive($0) }.map(\.interfaceIndex))
    }

    /// Whether all uplinks of a plan are attached to.
    func carry(_ plan: AttachmentPlan) -> Bool {
        liveUplinks().isSuperset(of: plan.interfaces.filter { $0.role == .uplink }.map(\.link.index))
    }
}

extension LoadedDatapath {
    /// The names of the uplinks that are attached to.
    public func uplinks() throws(FastNATError) -> [String] {
        var interfaces = try Interfaces()
        return attachments.liveUplinks().sorted().compactMap { interfaces.link($0)?.name }
    }

    /// Attaches to the interfaces that lead to containers where that is not done yet, for what they send by a masquerade.
    public func connect(to containers: [IPAddress]) throws(FastNATError) {
        try translating { try connecting(try Self.outputs(towards: containers)) {} }
    }

    /// Throws when no program of fastnat's is on the way to a container.
    public func requireConnection(to containers: [IPAddress]) throws(FastNATError) {
        let attachments = attachments
        try translating {
            let alive = Set(attachments.all().filter { attachments.isAlive($0) }.map(\.interfaceIndex))
            for output in try Self.outputs(towards: containers) where !alive.contains(output.index) {
                throw FastNATError.unusableInterface(
                    output.name, problem: "no program of fastnat's is on it any more; fastnat load attaches again")
            }
        }
    }
}

extension Datapath {
    /// Removes the mappings of all owners that `isDoomed` says so of, as `removeMappings(_:of:ending:)` does. Returns how many
    /// there were.
    @discardableResult
    public func removeMappings(
        where isDoomed: (MappingOwner) -> Bool, ending: FlowEnding = .drain
    ) throws(FastNATError) -> Int {
        try translating {
            let present = try maps.mappingEntries()
            let doomed = present.filter { $0.owner.map(isDoomed) == true }
            try carryOut(MappingChange(removing: doomed, from: present), ending)
            return doomed.count
        }
    }
}
