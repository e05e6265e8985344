internal import Glibc
internal import Lab

/// Room for flows in the kernel's connection tracking: its limits are the machine's, not a namespace's.
///
/// They are only ever raised. While anybody holds such an object the lock file is held, shared; a shell in a session of its own
/// waits for it alone and then puts the earlier limits back, however the processes ended.
final class ConntrackRoom: Sendable {
    private static let directory = "/run/fastnat-bench"
    private static let earlier = directory + "/limits"
    private static let limit = "/proc/sys/net/netfilter/nf_conntrack_max"
    private static let buckets = "/sys/module/nf_conntrack/parameters/hashsize"
    private static let restore = """
        [ -e "$0/limits" ] || exit 0
        { read limit; read buckets; } <"$0/limits" && rm -f "$0/limits"
        echo "$limit" >\(limit)
        echo "$buckets" >\(buckets)
        rm -f "$0/lock"
        rmdir "$0"
        """

    private let lock: Int32
    /// Kept, because a child ends with its object; the shell is in a session of its own by then.
    private let waiter: ChildProcess

    /// nil when there is room already that nobody will take back, or no connection tracking.
    init?(flows: Int) throws(BenchError) {
        guard let limit = Self.number(in: Self.limit), let buckets = Self.number(in: Self.buckets),
            limit < flows * 2 || Self.number(in: Self.earlier) != nil
        else { return nil }
        lock = try Self.takeLock()
        if Self.number(in: Self.earlier) == nil { _ = writeTextFile(Self.earlier, "\(limit)\n\(buckets)\n") }
        do throws(TestingError) {
            let shell = ["flock", Self.directory + "/lock", "sh", "-c", Self.restore, Self.directory]
            waiter = try ChildProcess(["setsid", "--fork", "--wait"] + shell)
        } catch {
            close(lock)
            throw .lab(error)
        }
        let isRaised =
            (limit >= flows * 2 || writeTextFile(Self.limit, "\(flows * 2)"))
            && (buckets >= flows || writeTextFile(Self.buckets, "\(flows)"))
        if !isRaised {
            throw .unavailable("cannot raise \(Self.limit): that takes the machine's first network namespace")
        }
    }

    deinit { close(lock) }

    /// The file may be removed between its opening and its locking: then there is a new one, or none.
    private static func takeLock() throws(BenchError) -> Int32 {
        let path = directory + "/lock"
        while true {
            mkdir(directory, 0o755)
            let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            if file < 0 && errno == ENOENT { continue }
            guard file >= 0, flock(file, LOCK_SH) == 0 else {
                throw .unavailable("cannot lock \(path): \(errnoText())")
            }
            var (ours, present) = (stat(), stat())
            if fstat(file, &ours) == 0, stat(path, &present) == 0, ours.st_ino == present.st_ino { return file }
            close(file)
        }
    }

    private static func number(in path: String) -> Int? {
        textFile(path)?.split(separator: "\n").first.flatMap { Int($0) }
    }
}
