internal import Glibc

/// An advisory lock on a directory, held as long as the value lives. The kernel lets go of it when the process dies.
struct Lock: ~Copyable {
    private let descriptor: Int32

    enum Kind {
        case shared
        case exclusive
    }

    /// How long one fastnat waits for another.
    private static let patience: UInt64 = 30_000_000_000

    /// Waits for the lock. nil: the directory is not there, or went while we waited.
    init?(_ path: String, _ kind: Kind) throws(FastNATError) {
        let deadline = monotonicNow() + Self.patience
        let operation = (kind == .shared ? LOCK_SH : LOCK_EX) | LOCK_NB
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor < 0 {
            guard errno == ENOENT else { throw .system(attempt: "open \(path)", errno: errno) }
            return nil
        }
        while flock(descriptor, operation) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR, monotonicNow() < deadline else {
                let code = errno
                close(descriptor)
                throw code == EWOULDBLOCK ? .locked(path) : .system(attempt: "lock \(path)", errno: code)
            }
            usleep(2_000)
        }
        guard Self.isStill(descriptor, path) else {
            close(descriptor)
            return nil
        }
        self.descriptor = descriptor
    }

    /// Whether the path still names what was opened: an unload may have removed it, and a load made another.
    private static func isStill(_ descriptor: Int32, _ path: String) -> Bool {
        var opened = stat()
        var named = stat()
        return fstat(descriptor, &opened) == 0 && stat(path, &named) == 0 && opened.st_ino == named.st_ino
            && opened.st_dev == named.st_dev
    }

    deinit {
        close(descriptor)
    }
}
