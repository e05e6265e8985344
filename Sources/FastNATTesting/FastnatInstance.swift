import CLinux
import Foundation
import Synchronization

/// What a fastnat that was loaded in a namespace has in the kernel and on disk, by the ids that the kernel gave it.
///
/// Others may run on the machine at the same time, so a leak is looked for among these ids, never by name.
public struct FastnatInstance: Sendable, CustomStringConvertible {
    /// Ids of programs.
    public let programs: Set<Int>
    /// Ids of maps.
    public let maps: Set<Int>
    /// Ids of links.
    public let links: Set<Int>
    private let cookie: UInt64

    /// Collects what belongs to the instance of this namespace: everything pinned, every program that uses one of those
    /// maps, and the links of those programs.
    public init(of namespace: NetworkNamespace) throws(TestingError) {
        cookie = try namespace.cookie
        let pins = "/run/fastnat/bpf/\(cookie)"
        var maps: Set<Int> = []
        for name in (try? FileManager.default.contentsOfDirectory(atPath: pins + "/maps")) ?? [] {
            if let id = try bpftool(["map", "show", "pinned", "\(pins)/maps/\(name)"]).first?["id"] as? Int {
                maps.insert(id)
            }
        }
        let users = try bpftool(["prog", "show"]).filter { program in
            !maps.isDisjoint(with: program["map_ids"] as? [Int] ?? [])
        }
        let programs = Set(users.compactMap { $0["id"] as? Int })
        self.programs = programs
        self.maps = users.reduce(into: maps) { $0.formUnion($1["map_ids"] as? [Int] ?? []) }
        links = Set(
            try bpftool(["link", "show"]).filter { programs.contains($0["prog_id"] as? Int ?? -1) }
                .compactMap { $0["id"] as? Int })
    }

    /// Such as "3 programs, 14 maps, 2 links".
    public var description: String { "\(programs.count) programs, \(maps.count) maps, \(links.count) links" }

    /// Waits until the kernel has freed everything and no file is left; it frees programs and maps some time after the last
    /// reference went.
    public func awaitGone(timeout: Duration = .seconds(10)) throws(TestingError) {
        var left: [String] = []
        do throws(TestingError) {
            try awaitCondition("", timeout: timeout) { () throws(TestingError) in
                left = try leftovers()
                return left.isEmpty
            }
        } catch {
            throw .timedOut("fastnat is gone; left: \(left.joined(separator: ", "))")
        }
    }

    /// What is still there.
    public func leftovers() throws(TestingError) -> [String] {
        var left: [String] = []
        for (kind, ids) in [(KernelObject.link, links), (.program, programs), (.map, maps)] {
            for id in ids.sorted() where try kind.exists(id) { left.append("\(kind) \(id)") }
        }
        return left + Self.files(of: cookie)
    }

    /// The files of the namespace with that cookie, and fastnat's own file system when nobody is left who uses it.
    private static func files(of cookie: UInt64) -> [String] {
        let manager = FileManager.default
        let own = ["/run/fastnat/\(cookie)", "/run/fastnat/bpf/\(cookie)"].filter { manager.fileExists(atPath: $0) }
        guard own.isEmpty, let entries = try? manager.contentsOfDirectory(atPath: "/run/fastnat") else { return own }
        return entries.contains { UInt64($0) != nil } ? [] : ["/run/fastnat"]
    }
}

extension NetworkNamespace {
    /// The number that names this namespace as long as the machine is up, also in the paths of fastnat's state.
    public var cookie: UInt64 {
        get throws(TestingError) {
            try run { () throws(TestingError) in
                let cookie = clinux_network_namespace_cookie()
                guard cookie != 0 else { throw .system(call: "SO_NETNS_COOKIE", errno: errno) }
                return cookie
            }
        }
    }
}

/// The objects that a `bpftool --json` command shows; one object counts as an array of one. Objects that go while it looks
/// make it complain, which does not matter here.
public func bpftool(_ arguments: [String]) throws(TestingError) -> [[String: Any]] {
    let result = try ChildProcess(["bpftool", "--json"] + arguments).wait()
    guard !result.outputBytes.isEmpty else { return [] }
    guard let value = try? JSONSerialization.jsonObject(with: Data(result.outputBytes)) else {
        throw .malformed("bpftool \(arguments.joined(separator: " ")): \(result)")
    }
    return value as? [[String: Any]] ?? (value as? [String: Any]).map { [$0] } ?? []
}

/// Takes away what this process's fastnats have left under /run/fastnat if the process ends without doing so itself, however
/// it ends: a shell in a session of its own waits for the lock that this process holds while it lives.
enum FastnatJanitor {
    private static let list = "/run/fastnat-testing/\(Cleanup.token).fastnat"
    private struct State {
        /// Kept, because a child ends with its object; the shell is in a session of its own by the time this process exits.
        var shell: ChildProcess?
        var watched: Set<UInt64> = []
    }

    private static let state = Mutex(State())

    private static let script = """
        trap 'rm -f "$0"; rmdir /run/fastnat-testing 2>/dev/null' EXIT
        [ -d /run/fastnat ] || exit
        exec 9</run/fastnat && flock 9
        while read cookie; do rm -rf "/run/fastnat/bpf/$cookie" "/run/fastnat/$cookie"; done <"$0"
        ls /run/fastnat | grep -q '^[0-9]' || { umount /run/fastnat/bpf; rmdir /run/fastnat/bpf /run/fastnat; } 2>/dev/null
        """

    /// Puts the namespace on the list.
    static func watch(_ namespace: NetworkNamespace) throws(TestingError) {
        let cookie = try namespace.cookie
        try state.withLock { state throws(TestingError) in
            guard state.watched.insert(cookie).inserted else { return }
            let line = "\(cookie)\n"
            let file = try checked("open \(list)", open(list, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600))
            defer { close(file) }
            _ = try checked("write \(list)", Int32(write(file, line, line.utf8.count)))
            guard state.shell == nil else { return }
            let lock = "/run/fastnat-testing/\(Cleanup.token).lock"
            state.shell = try ChildProcess(["setsid", "--fork", "--wait", "flock", lock, "sh", "-c", script, list])
        }
    }
}
