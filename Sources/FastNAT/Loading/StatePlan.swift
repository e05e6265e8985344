internal import Addresses
internal import BPF
internal import CDatapath
internal import Netlink

/// What lies between the present state and a desired one, found possible. Making it changes nothing.
struct StatePlan {
    let changes: [StateChange]
    let interfaces: AttachmentPlan
    /// Attachments of uplinks that are to be left.
    let leaving: [Attachment]
    /// Whether something is to be attached, or attached differently.
    let attaches: Bool
    let timeouts: Timeouts?
    let mappings: MappingChange?
    /// Where the new mappings lead.
    let outputs: [Link]
    let masquerades: MasqueradePlan?

    /// What is there. nil: nothing is loaded.
    struct Present {
        let mappings: [DatapathMaps.MappingEntry]
        let masquerades: [DatapathMaps.MasqueradeEntry]
        let timeouts: Timeouts
        let maximumFlows: Int
        let attachments: [Attachment]
        /// The modes that uplinks were loaded with, by interface.
        let modes: [UInt32: HookMode]

        init(_ maps: borrowing DatapathMaps, _ attachments: Attachments) throws {
            let settings = try maps.currentSettings()
            mappings = try maps.mappingEntries()
            masquerades = try maps.masqueradeEntries()
            timeouts = Timeouts(settings.timeouts)
            maximumFlows = Int(settings.max_flows)
            let alive = attachments.all().filter { attachments.isAlive($0) }
            let uplinks = Set(alive.filter { $0.role == .uplink }.map(\.interfaceIndex))
            modes = Dictionary(uniqueKeysWithValues: uplinks.map { ($0, attachments.mode(of: $0)) })
            self.attachments = alive
        }
    }

    init(_ desired: DesiredState, _ interfaces: AttachmentPlan, from present: Present?) throws {
        self.interfaces = interfaces
        var changes: [StateChange] = []
        if let present {
            if let limit = desired.maximumFlows, limit != present.maximumFlows {
                throw FastNATError.flowLimitFixed(present: present.maximumFlows, wanted: limit)
            }
        } else {
            guard desired.uplinks?.isEmpty == false else { throw FastNATError.notLoaded }
            let size = try FlowTableSize(flows: desired.maximumFlows ?? Int(DEFAULT_MAX_FLOWS.rawValue))
            changes.append(.load(maximumFlows: Int(size.flows)))
        }
        let attaching = Self.attaching(interfaces, present)
        attaches = !attaching.isEmpty
        leaving =
            desired.uplinks == nil ? [] : Self.leaving(interfaces, present?.attachments ?? [])
        changes += attaching + (try Self.detaching(leaving))
        timeouts = try desired.timeouts?.validated()
        changes += Self.changes(of: timeouts, from: present?.timeouts ?? Timeouts())
        mappings = try desired.mappings.map { mappings in
            try MappingChange(
                leaving: desired.owner, with: mappings.map(\.mapping), among: present?.mappings ?? [], adopting: true)
        }
        let uplinks = try Self.uplinks(desired, interfaces, present?.attachments ?? [])
        outputs =
            try mappings.map { change in
                let forced = Set(desired.mappings?.filter(\.force).map(\.mapping) ?? [])
                return try LoadedDatapath.checkedOutputs(
                    of: change.new, force: { forced.contains($0) }, uplinks: uplinks)
            } ?? []
        masquerades = try desired.masquerades.map { rules in
            try MasqueradePlan(rules, of: desired.owner, uplinks: uplinks, from: present)
        }
        try Self.refuseLeaving(leaving, masquerades?.change.staying ?? present?.masquerades ?? [])
        self.changes = try changes + (mappings?.differences ?? []) + (masquerades?.differences() ?? [])
    }

    private static func attaching(_ plan: AttachmentPlan, _ present: Present?) -> [StateChange] {
        plan.interfaces.compactMap { interface in
            let index = interface.link.index
            let here = (present?.attachments ?? []).filter { $0.interfaceIndex == index && $0.role == interface.role }
            guard here.contains(where: { $0.hook != .xdp }) else {
                return .attach(interface: interface.link.name, interface.role, usesXDP: interface.mode.usesXDP)
            }
            let hasXDP = here.contains { $0.hook == .xdp }
            guard interface.role == .uplink,
                hasXDP != interface.mode.usesXDP || present?.modes[index] != interface.asked
            else { return nil }
            return .mode(interface: interface.link.name, interface.asked)
        }
    }

    private static func leaving(_ plan: AttachmentPlan, _ present: [Attachment]) -> [Attachment] {
        let staying = Set(plan.interfaces.filter { $0.role == .uplink }.map(\.link.index))
        let leaving = Set(present.filter { $0.role == .uplink }.map(\.interfaceIndex)).subtracting(staying)
        return present.filter { $0.role != .container && leaving.contains($0.interfaceIndex) }
    }

    private static func detaching(_ leaving: [Attachment]) throws -> [StateChange] {
        var interfaces = try Interfaces()
        return Set(leaving.map(\.interfaceIndex)).sorted().compactMap { index in
            interfaces.link(index).map { .detach(interface: $0.name) }
        }
    }

    /// Uplinks that a network is still masqueraded on cannot be left.
    private static func refuseLeaving(_ leaving: [Attachment], _ masquerades: [DatapathMaps.MasqueradeEntry]) throws {
        var interfaces = try Interfaces()
        for link in Set(leaving.map(\.interfaceIndex)).sorted().compactMap({ interfaces.link($0) }) {
            try Loader.refuseMasqueraded(link, by: masquerades)
        }
    }

    private static func changes(of timeouts: Timeouts?, from old: Timeouts) -> [StateChange] {
        guard let timeouts else { return [] }
        return [
            ("tcp-half-open", old.tcpHalfOpen, timeouts.tcpHalfOpen), ("tcp-open", old.tcpOpen, timeouts.tcpOpen),
            ("tcp-closing", old.tcpClosing, timeouts.tcpClosing), ("udp", old.udp, timeouts.udp),
            ("icmp", old.icmp, timeouts.icmp),
        ].compactMap { $0.1 == $0.2 ? nil : .timeout($0.0, from: $0.1, to: $0.2) }
    }

    /// The uplinks that there will be.
    private static func uplinks(_ desired: DesiredState, _ plan: AttachmentPlan, _ present: [Attachment]) throws
        -> [Link]
    {
        guard desired.uplinks == nil else { return plan.interfaces.filter { $0.role == .uplink }.map(\.link) }
        var interfaces = try Interfaces()
        return present.filter { $0.role == .uplink }.compactMap { interfaces.link($0.interfaceIndex) }
    }
}

extension MappingChange {
    /// What the change consists of, for people.
    var differences: [StateChange] { adoptions.map { .adopt($0.mapping) } + moves.compactMap(\.difference) }
}

extension MappingChange.Move {
    /// What the move is, for people.
    var difference: StateChange? {
        switch (old?.mapping, new) {
        case (nil, let new?): .add(new)
        case (let old?, let new?): .replace(old, with: new)
        case (let old?, nil): .remove(old)
        case (nil, nil): nil
        }
    }
}
