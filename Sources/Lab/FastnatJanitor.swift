import CLinux
import Glibc
import Synchronization

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

/// Takes away what this process's fastnats have left under /run/fastnat if the process ends without doing so itself, however
/// it ends: a shell in a session of its own waits for the lock that this process holds while it lives.
package enum FastnatJanitor {
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
    package static func watch(_ namespace: NetworkNamespace) throws(TestingError) {
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
