internal import CLinux
internal import Glibc

/// Where the pins of this network namespace are: /run/fastnat/bpf/COOKIE, in a bpf file system of fastnat's own.
///
/// The cookie names the network namespace for as long as the machine is up. Locks are on plain directories beside it:
/// /run/fastnat for the file system as a whole, /run/fastnat/COOKIE for one network namespace. docs/state.md has the tree.
struct StateDirectory: ~Copyable {
    private let home: HomeNamespace
    /// Names this network namespace.
    let cookie: UInt64

    /// Finds the place; makes nothing.
    init() throws(FastNATError) {
        home = HomeNamespace()
        cookie = clinux_network_namespace_cookie()
        guard cookie != 0 else {
            throw errno == ENOPROTOOPT
                ? .kernelTooOld(missing: "SO_NETNS_COOKIE (Linux 5.14)")
                : .system(attempt: "identify this network namespace", errno: errno)
        }
    }

    private static let base = "/run/fastnat"
    private var root: String { home.prefix + Self.base }
    private var fileSystem: String { root + "/bpf" }
    private var lockDirectory: String { "\(root)/\(cookie)" }

    /// The directory of this network namespace's pins.
    var pins: String { "\(fileSystem)/\(cookie)" }
    var maps: String { pins + "/maps" }
    var programs: String { pins + "/programs" }
    var links: String { pins + "/links" }

    /// The root of the control groups that sockets belong to, or nil when no cgroup v2 file system is mounted.
    var controlGroups: String? { controlGroupRoot(in: home) }

    /// Whether a load has been completed: the directory of links is made last.
    var isLoaded: Bool { pathExists(links) }

    /// Whether there is anything, if only what an interrupted load has left.
    var exists: Bool { pathExists(pins) || pathExists(lockDirectory) }

    /// Locks what is loaded here.
    func lock(_ kind: Lock.Kind) throws(FastNATError) -> Lock {
        guard let lock = try Lock(lockDirectory, kind), isLoaded else { throw .notLoaded }
        return lock
    }

    /// Makes the directories and mounts the file system, as far as they are missing, and locks all of fastnat.
    func prepare() throws(FastNATError) -> Lock {
        while true {
            try makeDirectory(root)
            guard let lock = try Lock(root, .exclusive) else { continue }
            try mountFileSystem()
            try makeDirectory(lockDirectory)
            for directory in [pins, maps, programs] { try makeDirectory(directory) }
            return lock
        }
    }

    /// Locks this network namespace too, for who holds the lock on all of fastnat.
    func lockPrepared() throws(FastNATError) -> Lock {
        try makeDirectory(lockDirectory)
        guard let lock = try Lock(lockDirectory, .exclusive) else { throw .locked(lockDirectory) }
        return lock
    }

    /// Marks the load as complete.
    func markLoaded() throws(FastNATError) {
        try makeDirectory(links)
    }

    /// Locks all of fastnat for an unload. nil: there is nothing.
    func lockAll() throws(FastNATError) -> Lock? {
        try Lock(root, .exclusive)
    }

    /// Removes the pins of this network namespace, and the file system when nobody else has any. Needs `lockAll`.
    func remove() {
        removeTree(pins)
        rmdir(lockDirectory)
        guard namespaceNames.isEmpty else { return }
        _ = clinux_unmount_and_remove(home.mountNamespace, Self.base + "/bpf")
        rmdir(root)
    }

    /// Removes what network namespaces have left that are gone. Needs the lock of `prepare`.
    func removeAbandoned(_ isAbandoned: (_ pins: String) -> Bool) {
        for name in namespaceNames where name != String(cookie) {
            let pins = "\(fileSystem)/\(name)"
            guard isAbandoned(pins) else { continue }
            removeTree(pins)
            rmdir("\(root)/\(name)")
        }
    }

    /// The cookies with pins. A kernel with CONFIG_BPF_PRELOAD puts files of its own beside them.
    private var namespaceNames: [String] { directoryEntries(fileSystem).filter { UInt64($0) != nil } }

    private func mountFileSystem() throws(FastNATError) {
        try makeDirectory(fileSystem)
        if clinux_is_bpf_filesystem(fileSystem) { return }
        guard clinux_mount_bpf_filesystem(home.mountNamespace, Self.base + "/bpf") == 0 else {
            throw .system(attempt: "mount a bpf file system on \(Self.base)/bpf", errno: errno)
        }
    }
}
