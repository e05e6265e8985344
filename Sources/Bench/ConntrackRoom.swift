internal import Glibc
internal import Lab

/// Room for flows in the kernel's connection tracking: its limits are the machine's, not a namespace's.
///
/// All paths of a run have their flows in one hash table, whatever their namespaces: it gets a bucket for each flow of each of
/// them, or the others' would make every look-up longer.
///
/// Limits are only ever raised. While anybody holds such an object the lock file is held, shared; a shell in a session of its own
/// waits for it alone and then puts the earlier limits back, however the processes ended. Whoever reads or changes the limits
/// holds the lock: a limit that is read while it is put back would later be put back itself.
final class ConntrackRoom: Sendable {
    private static let directory = "/run/fastnat-bench"
    private static let earlier = directory + "/limits"
    private static let limit = "/proc/sys/net/netfilter/nf_conntrack_max"
    private static let buckets = "/sys/module/nf_conntrack/parameters/hashsize"
    private static let paths = PathKind.allCases.count { $0.usesConnectionTracking }
    /// A lock that is no longer the one in place belongs to those before: theirs is put back already.
    private static let restore = """
        exec 9<"$0/lock" && flock 9 && [ "$0/lock" -ef /proc/self/fd/9 ] || exit 0
        if { read limit && read buckets; } <"$0/limits"; then
            echo "$limit" >\(limit)
            echo "$buckets" >\(buckets)
        fi 2>/dev/null
        rm -f "$0/limits" "$0/lock"
        rmdir "$0"
        """

    private let lock: Int32
    /// Kept, because a child ends with its object; the shell is in a session of its own by then.
    private let waiter: ChildProcess

    /// Room for so many flows of each path; nil when there is no connection tracking.
    init?(flows: Int) throws(BenchError) {
        let wanted = flows * Self.paths
        guard Self.number(in: Self.limit) != nil else { return nil }
        lock = try Self.takeLock()
        do throws(TestingError) {
            waiter = try ChildProcess(["setsid", "--fork", "--wait", "sh", "-c", Self.restore, Self.directory])
        } catch {
            close(lock)
            throw .lab(error)
        }
        guard let limit = Self.number(in: Self.limit), let buckets = Self.number(in: Self.buckets),
            limit < flows * 2 || buckets < wanted
        else { return }
        if Self.number(in: Self.earlier) == nil { _ = writeTextFile(Self.earlier, "\(limit)\n\(buckets)\n") }
        let isRaised =
            (limit >= flows * 2 || writeTextFile(Self.limit, "\(flows * 2)"))
            && (buckets >= wanted || writeTextFile(Self.buckets, "\(wanted)"))
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
