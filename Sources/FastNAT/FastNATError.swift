public import Addresses
public import BPF
public import Netlink

/// Why fastnat did not do what it was asked. Each case says in one sentence what is wrong and what to do.
public enum FastNATError: Error, Sendable {
    /// The process lacks the capabilities that BPF and network administration need.
    case notPermitted
    /// Nothing is loaded in this network namespace.
    case notLoaded
    /// What is loaded was made by a fastnat with another layout of its maps.
    case otherVersion(UInt32)
    /// This network namespace has no such interface.
    case noInterface(String)
    /// The interface cannot carry what was asked.
    case unusableInterface(String, problem: String)
    /// A mapping, or a part of one, is wrong.
    case mapping(MappingError)
    /// A file of mappings is wrong.
    case mappingFile(MappingFileError)
    /// A file cannot be read.
    case unreadableFile(String, errno: Int32)
    /// A new mapping claims ports of one that is there, and may be somebody's.
    case overlap(PortMapping, with: PortMapping, owner: MappingOwner?)
    /// No mapping listens there.
    case noMapping(Listen)
    /// The owner has no mapping, or none that listens there.
    case noMappingOf(MappingOwner, Listen?)
    /// Packets would not reach the target.
    case notRoutable(IPAddress, problem: String)
    /// The kernel does not forward packets of this family that arrive on an interface.
    case forwardingOff(IPFamily, interface: String)
    /// Programs on the host itself do not reach published ports.
    case noHostAccess(String)
    /// A local program listens on a port that would be published.
    case portInUse(Listen, port: UInt16, by: IPAddress)
    /// The kernel cannot list sockets, so a local program could be shadowed unseen.
    case listenersUnknown
    /// A masquerade, or a part of one, is wrong.
    case masquerade(MasqueradeError)
    /// The network is masqueraded already.
    case masqueradeExists(IPPrefix, owner: MappingOwner?)
    /// The network is not masqueraded.
    case noMasquerade(IPPrefix)
    /// The owner masquerades no network, or not that one.
    case noMasqueradeOf(MappingOwner, IPPrefix?)
    /// No interface towards containers leads to the network.
    case networkNotRoutable(IPPrefix)
    /// There is no room for another masquerade.
    case masqueradeTableFull(limit: Int)
    /// There is no room for another exempt network.
    case exemptionTableFull(limit: Int)
    /// There is no room for another mapping.
    case mappingTableFull(limit: Int)
    /// There is no room for the ranges of another address and protocol.
    case rangeTableFull(limit: Int)
    /// There is no room for another network in an allow list.
    case allowListFull(limit: Int)
    /// The kernel lacks something that fastnat cannot do without.
    case kernelTooOld(missing: String)
    /// Another fastnat has been at work on this network namespace for too long.
    case locked(String)
    /// The table of flows cannot have this size.
    case invalidFlowLimit(Int)
    /// The table of flows cannot change its size while it is loaded.
    case flowLimitFixed(present: Int, wanted: Int)
    /// A timeout is out of its bounds, in seconds.
    case invalidTimeout(String, Int, bounds: ClosedRange<Int>)
    /// The kernel refused a BPF operation.
    case bpf(BPFError)
    /// The kernel did not answer a query.
    case netlink(NetlinkError)
    /// A system call failed; `attempt` completes "cannot …".
    case system(attempt: String, errno: Int32)
}

extension FastNATError: CustomStringConvertible {
    /// One sentence without a final stop.
    public var description: String {
        switch self {
        case .notPermitted:
            "fastnat needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN: run it as root"
        case .notLoaded:
            "fastnat is not loaded in this network namespace: run fastnat load --iface UPLINK first"
        case .otherVersion(let version):
            "what is loaded has layout version \(version), which this fastnat does not read: run fastnat unload, "
                + "which ends its flows and mappings, then load again"
        case .noInterface(let name):
            "there is no network interface \(name) in this network namespace: ip link lists them"
        case .unusableInterface(let name, let problem):
            "cannot use the interface \(name): \(problem)"
        case .mapping(let error): error.description
        case .mappingFile(let error): error.description
        case .unreadableFile(let path, let code): "cannot read \(path): \(errorText(code))"
        case .overlap(let new, let old, let owner):
            "\(new.listen) overlaps the mapping \(old.listen) to \(old.target)\(owner.map { " of \($0)" } ?? ""): "
                + "remove that one first (fastnat map rm \(old.listen))"
        case .noMapping(let listen):
            "no mapping listens on \(listen): fastnat map list shows those that do"
        case .noMappingOf(let owner, let listen):
            "no mapping of \(owner)\(listen.map { " listens on \($0)" } ?? " is there"): "
                + "fastnat map list shows whose they are"
        case .notRoutable(let address, let problem):
            "the target \(address) cannot be reached: \(problem)"
        case .noHostAccess(let reason):
            "programs on this host do not reach published ports: \(reason)"
        case .forwardingOff(let family, let interface):
            "the kernel does not forward \(family) from \(interface): run sysctl -w "
                + (family == .ipv4 ? "net.ipv4.ip_forward=1" : "net.ipv6.conf.all.forwarding=1")
        case .portInUse, .listenersUnknown: description(forcing: "add --force")
        case .masquerade(let error): error.description
        case .masqueradeExists(let network, let owner):
            "\(network) is masqueraded already\(owner.map { " by \($0)" } ?? ""): remove that first (fastnat masquerade rm \(network))"
        case .noMasquerade(let network):
            "\(network) is not masqueraded: fastnat masquerade list shows what is"
        case .noMasqueradeOf(let owner, let network):
            "\(owner) masquerades \(network.map { "not \($0)" } ?? "nothing"): fastnat masquerade list shows whose they are"
        case .networkNotRoutable(let network):
            "no route leads to containers in \(network), but by an uplink at most: is their network up?"
        case .masqueradeTableFull(let limit):
            "there is no room for more than \(limit) masquerades, with removed ones whose connections drain: remove some, "
                + "or join networks"
        case .exemptionTableFull(let limit):
            "there is no room for more than \(limit) exempt networks in all masquerades together: join networks"
        case .mappingTableFull(let limit):
            "there is no room for more than \(limit) mappings, with removed ones whose connections drain: remove some, or "
                + "publish ranges (one entry each)"
        case .rangeTableFull(let limit):
            "there is no room for ranges of more than \(limit) addresses and protocols: publish ranges without a host "
                + "address (one entry for all), or single ports"
        case .allowListFull(let limit):
            "there is no room for more than \(limit) networks in all allow lists together: join networks"
        case .kernelTooOld(let missing):
            "this kernel is too old: it lacks \(missing)"
        case .locked(let path):
            "another fastnat is still at work (it holds \(path)): try again when it has ended"
        case .invalidFlowLimit(let limit):
            "\(limit) is no usable number of flows: give one from 1024 to 16777216"
        case .flowLimitFixed(let present, let wanted):
            "the flow table is loaded with room for \(present) flows: run fastnat unload first to load it with \(wanted)"
        case .invalidTimeout(let name, let seconds, let bounds):
            "\(seconds) s is no usable \(name) timeout: give \(bounds.lowerBound) to \(bounds.upperBound) s"
        case .bpf(let error): error.description
        case .netlink(let error): error.description
        case .system(let attempt, let code): "cannot \(attempt): \(errorText(code))"
        }
    }
}

extension FastNATError {
    /// The sentence for whoever forces with something else than the option --force: `remedy` says how.
    public func description(forcing remedy: String) -> String {
        switch self {
        case .portInUse(let listen, let port, let address):
            "a local program listens on \(address) port \(port)/\(listen.transport.name), which \(listen) would "
                + "shadow: stop it, choose another port, or \(remedy)"
        case .listenersUnknown:
            "the kernel cannot say on which ports local programs listen (it lacks CONFIG_INET_DIAG): make sure that none "
                + "listens on the ports you publish, and \(remedy)"
        default: description
        }
    }

    /// The verifier's whole log, when it was the verifier that refused.
    public var verifierLog: String? {
        guard case .bpf(let error) = self else { return nil }
        return error.verifierLog
    }
}

/// Runs `body`, and makes a FastNATError of what the modules below throw.
func translating<Result>(_ body: () throws -> Result) throws(FastNATError) -> Result {
    do {
        return try body()
    } catch let error as FastNATError {
        throw error
    } catch let error as BPFError {
        throw .bpf(error)
    } catch let error as NetlinkError {
        throw .netlink(error)
    } catch let error as MappingError {
        throw .mapping(error)
    } catch let error as MasqueradeError {
        throw .masquerade(error)
    } catch {
        throw .system(attempt: "go on (\(error))", errno: 0)
    }
}
