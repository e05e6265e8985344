internal import Addresses
internal import BPF
internal import CDatapath
internal import Netlink

extension LoadedDatapath {
    /// What is running as the state that a file would describe: applied now, it changes nothing but whose the mappings are that
    /// were added by hand.
    ///
    /// Interfaces that have gone are left out, and so are those towards containers that a mapping leads to.
    public func state(of owner: MappingOwner) throws(FastNATError) -> DesiredState {
        try translating {
            let entries = try datapath.maps.mappingEntries()
            let settings = try datapath.maps.currentSettings()
            let attachments = attachments
            let alive = currentAttachments().filter(\.1).map(\.0)
            var interfaces = try Interfaces()
            var state = DesiredState(owner: owner)
            let uplinks = Set(alive.filter { $0.role == .uplink }.map(\.interfaceIndex)).sorted()
            state.uplinks = uplinks.compactMap { index in
                interfaces.link(index).map { .init($0.name, mode: attachments.mode(of: index)) }
            }
            state.containers = Self.containers(alive, Set(entries.map(\.mapping.target.address)), &interfaces)
            let isOldKernel = Requirements.kernelVersion() ?? (0, 0) < (6, 6)
            if !isOldKernel, alive.contains(where: { $0.hook == .clsact }) { state.attachment = .clsact }
            state.maximumFlows = Int(settings.max_flows)
            state.timeouts = Timeouts(settings.timeouts)
            let listeners = try? LocalListeners()
            state.mappings = entries.filter { $0.owner == nil || $0.owner == owner }.map { entry in
                .init(entry.mapping, force: listeners.map { !$0.allow(entry.mapping) } ?? true)
            }
            state.masquerades = try datapath.maps.masqueradeEntries().compactMap { entry in
                guard entry.owner == nil || entry.owner == owner, let uplink = interfaces.link(entry.value.uplink)
                else {
                    return nil
                }
                return try entry.rule(uplink: uplink.name)
            }
            return state
        }
    }

    private static func containers(_ alive: [Attachment], _ targets: Set<IPAddress>, _ interfaces: inout Interfaces)
        -> [String]
    {
        let found = Set(targets.compactMap { try? interfaces.output(towards: $0).index })
        return alive.filter { $0.role == .container && !found.contains($0.interfaceIndex) }
            .compactMap { interfaces.link($0.interfaceIndex)?.name }
    }
}

extension LocalListeners {
    /// Whether a mapping shadows no local program.
    fileprivate func allow(_ mapping: PortMapping) -> Bool {
        do throws(FastNATError) {
            try refuseShadowing(by: mapping)
            return true
        } catch {
            return false
        }
    }
}
