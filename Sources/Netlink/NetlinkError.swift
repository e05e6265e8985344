public import Addresses
internal import Glibc

/// Why the kernel did not answer a query.
public enum NetlinkError: Error, Hashable, Sendable {
    /// A system call failed, or the kernel refused the request; `attempt` completes "cannot …".
    case system(attempt: String, errno: Int32)
    /// Packets to the address would not leave: no route, or one that says so (`unreachable`, `prohibit`, `blackhole`).
    case noRoute(to: IPAddress, errno: Int32)
    /// This network namespace has no such interface; its name or `index 7`.
    case noInterface(String)
    /// The kernel's answer lacks what it must have.
    case malformed(attempt: String)
    /// The kernel's table kept changing while it was read, each time that we tried.
    case inconsistent(attempt: String)
}

extension NetlinkError: CustomStringConvertible {
    /// One sentence without a final stop.
    public var description: String {
        switch self {
        case .system(let attempt, let code): "cannot \(attempt): \(Self.text(code))"
        case .noRoute(let address, let code): "there is no route to \(address): \(Self.text(code))"
        case .noInterface(let interface): "there is no network interface \(interface)"
        case .malformed(let attempt): "cannot \(attempt): the kernel's answer is incomplete"
        case .inconsistent(let attempt): "cannot \(attempt): it kept changing; try again"
        }
    }

    /// The C library's text for an errno, which glibc has made thread-safe in 2.32.
    private static func text(_ code: Int32) -> String {
        guard let text = strerror(code) else { return "error \(code)" }
        return String(cString: text)
    }
}
