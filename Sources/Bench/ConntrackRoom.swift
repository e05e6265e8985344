internal import Glibc
internal import Lab

/// Room for flows in the kernel's connection tracking: its limits are the machine's, not a namespace's.
///
/// They are only ever raised. While anybody holds such an object the lock file is held, shared; a shell in a session of its own
/// waits for it alone and then puts the earlier limits back, however the processes ended.
final class ConntrackRoom: Sendable {
    private static let directory = "/run/fastnat-bench"
    private static let limit = "/proc/sys/net/netfilter/nf_conntrack_max"
    private static let buckets = "/sys/module/nf_conntrack/parameters/hashsize"
    private static let restore = """
        [ -e "$0/limits" ] || exit 0
        { read limit; read buckets; } <"$0/limits" && rm -f "$0/limits"
        echo "$limit" >\(limit)
        echo "$buckets" >\(buckets)
        """

    private let lock: Int32

    /// nil when there is room already, or no connection tracking.
    init?(flows: Int) throws(BenchError) {
        guard let limit = Self.number(in: Self.limit), let buckets = Self.number(in: Self.buckets),
            limit < flows * 2
        else { return nil }
        mkdir(Self.directory, 0o755)
        lock = open(Self.directory + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0, flock(lock, LOCK_SH) == 0 else {
            throw .unavailable("cannot lock \(Self.directory)/lock: \(String(cString: strerror(errno)))")
        }
        if Self.number(in: Self.directory + "/limits") == nil {
            _ = writeTextFile(Self.directory + "/limits", "\(limit)\n\(buckets)\n")
        }
        try lab { () throws(TestingError) in
            let waiter = [
                "setsid", "--fork", "flock", Self.directory + "/lock", "sh", "-c", Self.restore, Self.directory,
            ]
            _ = try ChildProcess(waiter).wait()
        }
        guard writeTextFile(Self.limit, "\(flows * 2)"), writeTextFile(Self.buckets, "\(max(flows, buckets))") else {
            throw .unavailable("cannot raise \(Self.limit): that takes the machine's first network namespace")
        }
    }

    deinit { close(lock) }

    private static func number(in path: String) -> Int? {
        textFile(path)?.split(separator: "\n").first.flatMap { Int($0) }
    }
}
