internal import Glibc

/// Tells systemd how a service fares (sd_notify(3)); silent where nobody asked.
struct ServiceManager: Sendable {
    private let socket: String?
    /// How often systemd wants a sign of life; nil: never.
    let watchdog: Duration?

    init() {
        socket = getenv("NOTIFY_SOCKET").map { String(cString: $0) }
        let isMine = getenv("WATCHDOG_PID").map { pid_t(String(cString: $0)) == getpid() } ?? true
        watchdog =
            isMine ? getenv("WATCHDOG_USEC").flatMap { Int64(String(cString: $0)) }.map { .microseconds($0) } : nil
    }

    /// Sends assignments such as `READY=1`.
    func notify(_ assignments: String...) {
        guard let socket, let path = SocketAddress(socket) else { return }
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        let message = assignments.joined(separator: "\n")
        _ = path.withPointer { sendto(descriptor, message, message.utf8.count, Int32(MSG_NOSIGNAL), $0, $1) }
    }
}

/// The address of a unix socket: a path or, with an @ in front, an abstract name.
private struct SocketAddress {
    private var address = sockaddr_un()
    private let length: socklen_t

    init?(_ name: String) {
        var bytes = Array(name.utf8)
        guard bytes.count > 1, bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        if bytes[0] == UInt8(ascii: "@") { bytes[0] = 0 }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    }

    func withPointer<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
