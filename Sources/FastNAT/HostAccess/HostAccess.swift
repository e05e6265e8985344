internal import BPF
internal import CDatapath
internal import Glibc

/// Whether programs on the host itself reach published ports.
public enum HostAccess: Sendable, Hashable {
    /// By these system calls on sockets, such as `connect4`.
    case on([String])
    /// Not at all; the reason is a clause without a final stop.
    case off(reason: String)
}

/// The programs for sockets of the host itself, and their links, of one network namespace.
///
/// The rest of fastnat works without them: a kernel or system that lacks what they need gets `.off`, with the reason.
struct HostPrograms {
    /// Directories of pins.
    private let maps: String
    private let links: String
    private let controlGroup: String?
    private let cookie: UInt64

    /// Maps that belong to these programs alone; the others are the datapath's.
    private static let ownMaps = ["socket_peers", "datagram_peers"]

    init(in state: borrowing StateDirectory) {
        maps = state.maps
        links = state.links
        controlGroup = state.controlGroups
        cookie = state.cookie
    }

    private func path(_ hook: SocketHook) -> String { "\(links)/socket-\(hook.rawValue)" }

    /// Loads the programs on the pinned maps and attaches them, or puts them in the place of those that are attached.
    func attach() -> HostAccess {
        guard let controlGroup else {
            detach()
            return .off(reason: Self.noControlGroups)
        }
        do throws(BPFError) {
            let object = try load()
            for hook in SocketHook.allCases { try attach(object, at: hook, of: controlGroup) }
            return .on(SocketHook.allCases.map(\.rawValue))
        } catch {
            detach()
            return .off(reason: hasKernelTypes ? error.description : Self.noKernelTypes)
        }
    }

    private func load() throws(BPFError) -> LoadedObject {
        var size = 0
        let start = fastnat_sockets_object(&size)
        var image = try ObjectImage(UnsafeRawBufferPointer(start: start, count: size), name: "fastnat_sockets")
        for name in DatapathMaps.names + Self.ownMaps where pathExists("\(maps)/\(name)") {
            try image.reuse(try Descriptor(pinnedAt: "\(maps)/\(name)"), as: name)
        }
        try image.setConstants(cookie, in: ".rodata.namespace")
        let object = try image.load()
        for name in Self.ownMaps where !pathExists("\(maps)/\(name)") {
            try object.map(name).pin(at: "\(maps)/\(name)")
        }
        return object
    }

    private func attach(
        _ object: borrowing LoadedObject, at hook: SocketHook, of controlGroup: String
    ) throws(BPFError) {
        let program = try object.program("fastnat_" + hook.rawValue)
        if isAlive(hook) {
            try BPFLink(Descriptor(pinnedAt: path(hook))).replaceProgram(with: program)
        } else {
            unlink(path(hook))
            try BPFLink(program: program, controlGroup: controlGroup, at: hook).descriptor.pin(at: path(hook))
        }
    }

    /// Detaches at once, the calls that translate before those that translate back.
    func detach() {
        for hook in SocketHook.allCases.reversed() {
            if let link = try? BPFLink(Descriptor(pinnedAt: path(hook))) { try? link.detach() }
            unlink(path(hook))
        }
    }

    private func isAlive(_ hook: SocketHook) -> Bool {
        guard let link = try? BPFLink(Descriptor(pinnedAt: path(hook))) else { return false }
        return (try? link.hasControlGroup()) ?? false
    }

    /// What is attached now. Why nothing is, the load may have known better.
    func current() -> HostAccess {
        let attached = SocketHook.allCases.filter(isAlive)
        if !attached.isEmpty { return .on(attached.map(\.rawValue)) }
        if controlGroup == nil { return .off(reason: Self.noControlGroups) }
        return .off(
            reason: hasKernelTypes ? "the kernel refused the programs; fastnat load says why" : Self.noKernelTypes)
    }

    private var hasKernelTypes: Bool { pathExists(KernelTypes.path) }

    private static let noControlGroups = "no cgroup v2 file system is mounted"
    private static let noKernelTypes = "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)"
}
