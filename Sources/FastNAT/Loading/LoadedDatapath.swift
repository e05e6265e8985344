internal import Addresses
internal import BPF
internal import CDatapath
internal import Netlink

/// The datapath of this network namespace, locked as long as the value lives.
public struct LoadedDatapath: ~Copyable {
    /// Its mappings, flows and counters.
    public let datapath: Datapath
    private let state: StateDirectory
    private let lock: Lock

    /// What somebody wants to do.
    public enum Access: Sendable {
        /// Others may read, too.
        case read
        /// Nobody else may read or change.
        case change
    }

    /// Opens what is loaded. Throws `.notLoaded` when nothing is.
    public init(for access: Access) throws(FastNATError) {
        try Requirements.check()
        let state = try StateDirectory()
        let lock = try state.lock(access == .read ? .shared : .exclusive)
        let datapath = try Datapath(pinnedIn: state)
        self.datapath = datapath
        self.state = state
        self.lock = lock
    }

    private var attachments: Attachments { Attachments(directory: state.links) }

    /// Each attachment, and whether it is still there.
    func currentAttachments() -> [(Attachment, Bool)] {
        let attachments = attachments
        return attachments.all().map { ($0, attachments.isAlive($0)) }
    }

    /// Publishes ports: all of them, or none.
    ///
    /// Attaches to the interfaces that lead to the targets where that is not done yet.
    ///
    /// - Parameter force: publish also what a local program listens on.
    public func publish(_ mappings: [PortMapping], force: Bool = false) throws(FastNATError) {
        let (attachments, maps) = (attachments, state.programs)
        try translating {
            if !force { try Self.refuseShadowing(by: mappings) }
            let outputs = try Self.outputs(for: mappings)
            var new: [Attachment] = []
            do {
                for output in outputs {
                    if let attachment = try attachContainerSide(output, attachments, maps) { new.append(attachment) }
                    try noteXDPOutput(output)
                }
                try datapath.addMappings(mappings)
            } catch {
                for attachment in new { attachments.detach(attachment) }
                throw error
            }
        }
    }

    private static func refuseShadowing(by mappings: [PortMapping]) throws {
        let listeners = try LocalListeners()
        for mapping in mappings { try listeners.refuseShadowing(by: mapping) }
    }

    /// The interfaces that lead to the targets. Throws when one cannot be reached.
    private static func outputs(for mappings: [PortMapping]) throws -> [Link] {
        var interfaces = try Interfaces()
        var outputs: [UInt32: Link] = [:]
        for target in Set(mappings.map(\.target.address)) {
            let link = try interfaces.output(towards: target)
            guard link.isEthernet else {
                throw FastNATError.notRoutable(target, problem: "the interface \(link.name) towards it is not Ethernet")
            }
            outputs[link.index] = link
        }
        for family in Set(mappings.map(\.family)) where try !isForwarding(family) {
            throw FastNATError.forwardingOff(family)
        }
        return outputs.values.sorted { $0.index < $1.index }
    }

    private static func isForwarding(_ family: IPFamily) throws -> Bool {
        try isForwardingEnabled(interface: "all", family: family)
    }

    /// A target behind an uplink needs no program of its own there.
    private func attachContainerSide(_ link: Link, _ attachments: Attachments, _ programs: String) throws -> Attachment?
    {
        let present = attachments.all().filter { $0.interfaceIndex == link.index && $0.hook != .xdp }
        for attachment in present {
            if attachments.isAlive(attachment) { return nil }
            attachments.detach(attachment)
        }
        let program = try Descriptor(pinnedAt: "\(programs)/\(DatapathProgram.container.rawValue)")
        let usesClsact = attachments.all().contains { $0.hook == .clsact }
        return try attachments.attachTC(.container, link.index, program, usesClsact ? .clsact : .auto)
    }

    /// A device that takes redirected frames has an own NAPI, or its peer has: otherwise they are lost without a trace.
    private func noteXDPOutput(_ link: Link) throws {
        var interfaces = try Interfaces()
        if try interfaces.xdpFeatures(link.index)?.contains(.ndoXmit) == true {
            try datapath.maps.xdpOutputs.set(link.index, link.index)
        } else {
            try datapath.maps.xdpOutputs.remove(link.index)
        }
    }
}

extension Datapath {
    /// Opens the pinned maps.
    init(pinnedIn state: borrowing StateDirectory) throws(FastNATError) {
        let (maps, programs) = (state.maps, state.programs)
        do throws(BPFError) {
            let opened = try DatapathMaps { name throws(BPFError) in try Descriptor(pinnedAt: "\(maps)/\(name)") }
            let version = try opened.currentSettings().abi_version
            guard version == ABI_VERSION.rawValue else { throw BPFError("read settings", result: -Int32(version)) }
            let flush = try Descriptor(pinnedAt: "\(programs)/\(DatapathProgram.flush.rawValue)")
            self.init(maps: opened, flushProgram: flush)
        } catch {
            throw .bpf(error)
        }
    }
}
