internal import Addresses
internal import BPF
internal import CDatapath
internal import Netlink

/// The datapath of this network namespace, locked as long as the value lives.
public struct LoadedDatapath: ~Copyable {
    /// Its mappings, flows and counters.
    public let datapath: Datapath
    let state: StateDirectory
    private let lock: Lock
    /// Whether all is on the interfaces of containers that is to be there.
    private let isSettled: Bool

    /// What somebody wants to do.
    public enum Access: Sendable {
        /// Others may read, too.
        case read
        /// Nobody else may read or change.
        case change
        /// The same while a container is set up: others may have something to put on its interface yet.
        case setUp
    }

    /// Opens what is loaded. Throws `.notLoaded` when nothing is.
    public init(for access: Access) throws(FastNATError) {
        try Requirements.check()
        let state = try StateDirectory()
        let lock = try state.lock(access == .read ? .shared : .exclusive)
        let datapath = try Datapath.pinned(in: state)
        self.datapath = datapath
        self.state = state
        self.lock = lock
        isSettled = access != .setUp
    }

    /// What is loaded, for who holds the lock already.
    init(_ datapath: consuming Datapath, _ state: consuming StateDirectory, _ lock: consuming Lock) {
        self.datapath = datapath
        self.state = state
        self.lock = lock
        isSettled = true
    }

    /// The programs on interfaces.
    var attachments: Attachments { Attachments(directory: state.links) }

    /// Each attachment, and whether it is still there.
    func currentAttachments() -> [(Attachment, Bool)] {
        let attachments = attachments
        return attachments.all().map { ($0, attachments.isAlive($0)) }
    }

    /// Whether programs on the host itself reach published ports.
    func currentHostAccess() -> HostAccess { HostPrograms(in: state).current() }

    /// Publishes ports: all of them, or none.
    ///
    /// Attaches to the interfaces that lead to the targets where that is not done yet.
    ///
    /// - Parameter owner: whose the mappings are; nil for those that are added by hand.
    /// - Parameter force: publish also what a local program listens on.
    /// - Parameter replacement: take the place of the owner's mappings that listen on the same, whose connections then drain or
    ///   are cut.
    public func publish(
        _ mappings: [PortMapping], of owner: MappingOwner? = nil, force: Bool = false, replacement: FlowEnding? = nil
    ) throws(FastNATError) {
        try translating {
            if replacement == nil, let addition = try datapath.maps.addition(of: mappings, owner: owner) {
                let outputs = try checkedOutputs(of: mappings, force: force)
                return try connecting(outputs) { try datapath.maps.carryOut(addition) {} }
            }
            let present = try datapath.maps.mappingEntries()
            if let replacement {
                let change = try MappingChange(replacing: mappings, of: owner, among: present)
                try publish(change, force: force, replacement)
            } else {
                try publish(MappingChange(adding: mappings, of: owner, to: present), force: force)
            }
        }
    }

    /// Publishes these ports for an owner and no others of its own: all of it, or nothing is changed.
    ///
    /// Mappings that are there already stay as they are, with their counters and flows, whether or not their targets can be
    /// reached now; `Datapath.replaceMappings` says what becomes of the others. An owner without mappings may be left with none.
    ///
    /// - Parameter force: publish also what a local program listens on.
    public func replaceMappings(of owner: MappingOwner, with mappings: [PortMapping], force: Bool = false)
        throws(FastNATError)
    {
        try translating {
            let present = try datapath.maps.mappingEntries()
            try publish(MappingChange(leaving: owner, with: mappings, among: present), force: force)
        }
    }

    /// Attaches to where the new mappings of a change lead, and carries it out.
    private func publish(_ change: MappingChange, force: Bool, _ ending: FlowEnding = .drain) throws {
        let outputs = try checkedOutputs(of: change.new, force: force)
        try connecting(outputs) { try datapath.carryOut(change, ending) }
    }

    private func checkedOutputs(of new: [PortMapping], force: Bool) throws -> [Link] {
        try Self.checkedOutputs(of: new, force: { _ in force }, uplinks: try currentUplinks())
    }

    /// The interfaces that new mappings lead to. Throws when one of them cannot be published: it would shadow a
    /// local program, cannot be reached, or is not forwarded to.
    static func checkedOutputs(
        of new: [PortMapping], force: (PortMapping) -> Bool, uplinks: [Link]
    ) throws -> [Link] {
        try refuseShadowing(by: new.filter { !force($0) })
        let outputs = try outputs(towards: new.map(\.target.address))
        try requireForwarding(Set(new.flatMap { [$0.family, $0.target.address.family] }), from: uplinks + outputs)
        return outputs
    }

    /// Attaches to interfaces towards containers where that is not done yet, for what `body` enters; takes that back when it
    /// fails.
    func connecting(_ outputs: [Link], _ body: () throws -> Void) throws {
        let attachments = attachments
        let program = try Descriptor(pinnedAt: "\(state.programs)/\(DatapathProgram.container.rawValue)")
        let port = try Descriptor(pinnedAt: "\(state.programs)/\(DatapathProgram.port.rawValue)")
        let uplinks = attachments.uplinks()
        var (attached, noted): ([Attachment], [UInt32: [OutputAbility]]) = ([], [:])
        do {
            for output in outputs {
                if let new = try attachments.attachContainerSide(output, program) { attached.append(new) }
                noted[output.index] = try datapath.maps.noteOutput(
                    output, isUplink: uplinks.contains(output.index), isSettled: isSettled)
                attached += datapath.maps.connectPorts(of: output, port, attachments, isSettled: isSettled)
            }
            try body()
        } catch {
            for (index, abilities) in noted { datapath.maps.forgetOutput(index, abilities) }
            for attachment in attached { datapath.maps.leave(attachment, attachments) }
            throw error
        }
    }

    private static func refuseShadowing(by mappings: [PortMapping]) throws {
        guard !mappings.isEmpty else { return }
        let listeners = try LocalListeners()
        for mapping in mappings { try listeners.refuseShadowing(by: mapping) }
    }

    /// The interfaces that lead to the targets. Throws when one cannot be reached.
    static func outputs(towards targets: [IPAddress]) throws -> [Link] {
        var interfaces = try Interfaces()
        var outputs: [UInt32: Link] = [:]
        for target in Set(targets) {
            let link = try interfaces.output(towards: target)
            outputs[link.index] = link
        }
        return outputs.values.sorted { $0.index < $1.index }
    }

    /// The datapath asks the kernel for routes of packets that arrive on an uplink or from a container; it has none for an
    /// interface that does not forward.
    func requireForwarding(_ families: Set<IPFamily>, _ outputs: [Link]) throws {
        try Self.requireForwarding(families, from: try currentUplinks() + outputs)
    }

    static func requireForwarding(_ families: Set<IPFamily>, from links: [Link]) throws {
        for family in families.sorted(by: { $0.rawValue < $1.rawValue }) {
            for link in links where try !isForwardingEnabled(interface: link.name, family: family) {
                throw FastNATError.forwardingOff(family, interface: link.name)
            }
        }
    }

    func currentUplinks() throws -> [Link] {
        var interfaces = try Interfaces()
        return attachments.all().filter { $0.role == .uplink }.compactMap { interfaces.link($0.interfaceIndex) }
    }
}

extension Datapath {
    /// Opens the pinned maps and programs.
    static func pinned(in state: borrowing StateDirectory) throws(FastNATError) -> Datapath {
        let (maps, programs) = (state.maps, state.programs)
        let open = try DatapathMaps.pinned(in: maps)
        do throws(BPFError) {
            return Datapath(
                maps: open, flushProgram: try Descriptor(pinnedAt: "\(programs)/\(DatapathProgram.flush.rawValue)"))
        } catch {
            throw .bpf(error)
        }
    }
}

extension DatapathMaps {
    /// Opens the pinned maps, of this version alone: another one has other maps.
    static func pinned(in directory: String) throws(FastNATError) -> DatapathMaps {
        let open = { (name: String) throws(BPFError) in try Descriptor(pinnedAt: "\(directory)/\(name)") }
        let version: UInt32
        do throws(BPFError) {
            let settings = try Map<UInt32, CDatapath.settings>(open("settings"), name: "settings")
            version = try settings.value(0)?.abi_version ?? 0
            if version == ABI_VERSION.rawValue { return try DatapathMaps(open) }
        } catch {
            throw .bpf(error)
        }
        throw .otherVersion(version)
    }
}
