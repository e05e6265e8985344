public import Addresses
internal import Glibc

/// Whether the kernel forwards packets that arrive on an interface, in the network namespace of this thread:
/// `net.ipv4.conf.INTERFACE.forwarding` or `net.ipv6.conf.INTERFACE.forwarding`.
///
/// `interface` is a name, or `all` or `default`. IPv4 forwards by the incoming interface's setting. IPv6 forwards by
/// `all` and takes the interface's setting for "am I a router there" only, so ask it about `all`.
///
/// - Throws: `.noInterface` when there is no such interface; `.system` when the setting cannot be read.
public func isForwardingEnabled(interface: String, family: IPFamily) throws(NetlinkError) -> Bool {
    // It becomes part of a path; these are the names that the kernel refuses too.
    guard !interface.isEmpty, interface != ".", interface != "..", !interface.utf8.contains(UInt8(ascii: "/")),
        !interface.utf8.contains(0)
    else { throw .noInterface(interface.debugDescription) }

    let settings = "/proc/sys/net/\(family == .ipv4 ? "ipv4" : "ipv6")/conf"
    let path = "\(settings)/\(interface)/forwarding"
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
        let code = errno
        guard code == ENOENT else { throw .system(attempt: "read \(path)", errno: code) }
        // A kernel that was booted without IPv6 does not forward it.
        guard access(settings, F_OK) == 0 else { return false }
        throw .noInterface(interface)
    }
    defer { close(descriptor) }
    var digit: UInt8 = 0
    guard read(descriptor, &digit, 1) == 1 else { throw .system(attempt: "read \(path)", errno: errno) }
    return digit != UInt8(ascii: "0")
}
