public import Addresses
internal import BPF
internal import Netlink

extension LoadedDatapath {
    /// Masquerades networks: all of them, or none. Attaches to the interfaces that lead to them where that is not done yet.
    ///
    /// - Parameter owner: whose the masquerades are; nil for those that are added by hand.
    public func masquerade(_ rules: [MasqueradeRule], of owner: MappingOwner? = nil) throws(FastNATError) {
        try translating {
            let present = try datapath.maps.masqueradeEntries()
            try masquerade(MasqueradeChange(adding: try placed(rules), of: owner, to: present))
        }
    }

    /// Masquerades these networks for an owner and no others of its own: all of it, or nothing is changed. Throws
    /// `.masqueradeExists` when a network has a masquerade of another owner.
    ///
    /// Masquerades that are there already stay as they are, with their counters and flows, whether or not their networks can be
    /// reached now. A packet meets, at every moment, what was or what will be. Flows of what is removed or changed end as with
    /// `removeMasquerade`. An owner without masquerades may be left with none.
    public func replaceMasquerades(of owner: MappingOwner, with rules: [MasqueradeRule]) throws(FastNATError) {
        try translating {
            let present = try datapath.maps.masqueradeEntries()
            try masquerade(MasqueradeChange(leaving: owner, with: try placed(rules), among: present))
        }
    }

    /// Undoes `masquerade`. Its TCP connections drain, its UDP flows end.
    ///
    /// - Parameter owner: whose it must be; nil: whoever's.
    public func removeMasquerade(of network: IPPrefix, owner: MappingOwner? = nil) throws(FastNATError) {
        let count = try datapath.removeMasquerades {
            $0.network == network && (owner == nil || $0.owner == owner)
        }
        guard count > 0 else { throw owner.map { .noMasqueradeOf($0, network) } ?? .noMasquerade(network) }
    }

    /// Removes every masquerade of an owner. Returns how many there were.
    @discardableResult
    public func removeMasquerades(of owner: MappingOwner) throws(FastNATError) -> Int {
        try datapath.removeMasquerades { $0.owner == owner }
    }

    /// All masquerades with their counters, sorted by network.
    public func masquerades() throws(FastNATError) -> [InstalledMasquerade] {
        var interfaces = try Interfaces()
        return try datapath.masquerades { interfaces.link($0)?.name ?? "#\($0)" }
    }

    /// Attaches to where the new networks of a change are, and carries it out.
    private func masquerade(_ change: MasqueradeChange) throws {
        let outputs = try Self.checkedOutputs(of: change, uplinks: attachments.uplinks())
        try requireForwarding(Set(change.new.map(\.rule.network.family)), outputs)
        try carryOut(change, outputs) {}
    }

    /// Attaches to where a change leads and carries it out, and then `rest`: all of it, or none.
    func carryOut(_ change: MasqueradeChange, _ outputs: [Link], _ rest: () throws -> Void) throws {
        try connecting(outputs) {
            for uplink in Set(change.new.map(\.uplink)).sorted() { try attachHostSide(uplink) }
            try datapath.carryOut(change, rest)
        }
    }

    private func placed(_ rules: [MasqueradeRule]) throws -> [PlacedMasquerade] {
        try Self.placed(rules, uplinks: attachments.uplinks())
    }

    /// Finds where rules apply. Throws when an uplink is none of `uplinks`.
    static func placed(_ rules: [MasqueradeRule], uplinks: Set<UInt32>) throws -> [PlacedMasquerade] {
        guard !rules.isEmpty else { return [] }
        var interfaces = try Interfaces()
        let addresses = try interfaces.addresses()
        return try rules.map { rule in
            let link = try interfaces.named(rule.uplink)
            guard uplinks.contains(link.index) else {
                throw FastNATError.unusableInterface(
                    link.name,
                    problem: "it is no uplink of fastnat; fastnat load --iface \(link.name) makes it one")
            }
            let present = addresses.first {
                $0.interfaceIndex == link.index && $0.address.family == rule.network.family
                    && !$0.address.isLinkLocal
            }
            return PlacedMasquerade(rule: rule, uplink: link.index, source: present?.address)
        }
    }

    /// The interfaces that lead to the new networks of a change. Throws when a network cannot be masqueraded: nothing leads there,
    /// or its address is not the host's.
    static func checkedOutputs(of change: MasqueradeChange, uplinks: Set<UInt32>) throws -> [Link] {
        guard !change.new.isEmpty else { return [] }
        var interfaces = try Interfaces()
        let addresses = Set(try interfaces.addresses().map(\.address))
        var outputs: [UInt32: Link] = [:]
        for rule in change.new.map(\.rule) {
            if let source = rule.source, !addresses.contains(source) {
                throw FastNATError.masquerade(.notLocal(source))
            }
            for link in try interfaces.outputs(towards: rule.network, except: uplinks) { outputs[link.index] = link }
        }
        return outputs.values.sorted { $0.index < $1.index }
    }

    /// Lets the host's own sockets share an uplink's ports with containers. The program stays when masquerading ends: sockets
    /// whose port it has changed need it as long as they live.
    private func attachHostSide(_ uplink: UInt32) throws {
        let program = try Descriptor(pinnedAt: "\(state.programs)/\(DatapathProgram.host.rawValue)")
        let usesClsact = attachments.all().contains { $0.hook == .clsact }
        _ = try attachments.attachTC(.host, uplink, program, usesClsact ? .clsact : .auto)
    }
}
