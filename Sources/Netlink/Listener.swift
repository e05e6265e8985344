public import Addresses
internal import CLinux
internal import CMnl
internal import Glibc

/// The transports whose sockets can be listed.
public enum ListenerTransport: Sendable, Hashable, CaseIterable {
    /// Sockets in the state `LISTEN`.
    case tcp
    /// Sockets that are bound and not connected. The kernel cannot tell a server from a client that sent without
    /// connecting and waits for answers.
    case udp
}

/// A socket that takes packets for a local port.
public struct Listener: Sendable, Hashable {
    /// The address that it is bound to, `0.0.0.0` or `::` for any; an IPv4-mapped one as IPv4.
    public let address: IPAddress
    /// The port, in host byte order.
    public let port: UInt16
    /// Whether it takes IPv4 packets: an IPv4 socket, or one bound to `::` without `IPV6_V6ONLY`.
    public let acceptsIPv4: Bool
    /// Whether it takes IPv6 packets.
    public let acceptsIPv6: Bool
    /// The index of the interface that it is bound to (`SO_BINDTODEVICE`); nil for any.
    public let interfaceIndex: UInt32?
    /// The number by which /proc/PID/fd names the socket.
    public let inode: UInt32

    /// Whether it takes packets of `family`.
    public func accepts(_ family: IPFamily) -> Bool { family == .ipv4 ? acceptsIPv4 : acceptsIPv6 }
}

extension Listener {
    /// The socket that an inet_diag message describes.
    fileprivate init?(_ message: Message) {
        guard let socket = message.payload(as: inet_diag_msg.self) else { return nil }
        let source = socket.id.idiag_src
        switch Int32(socket.idiag_family) {
        case AF_INET:
            guard let address = withUnsafeBytes(of: source.0, { IPAddress(bytes: $0) }) else { return nil }
            self.address = address
            self.acceptsIPv4 = true
            self.acceptsIPv6 = false
        case AF_INET6:
            let attributes = message.attributes(after: inet_diag_msg.self, upTo: INET_DIAG_SKV6ONLY)
            let isIPv6Only = (attributes.uint8(INET_DIAG_SKV6ONLY) ?? 0) != 0
            let address = IPAddress(mapped: source)
            self.address = address
            self.acceptsIPv4 = address.family == .ipv4 || (address.isUnspecified && !isIPv6Only)
            self.acceptsIPv6 = address.family == .ipv6
        default:
            return nil
        }
        self.port = UInt16(bigEndian: socket.id.idiag_sport)
        self.interfaceIndex = socket.id.idiag_if == 0 ? nil : socket.id.idiag_if
        self.inode = socket.idiag_inode
    }
}

extension NetlinkSocket<SocketDiagnosisBus> {
    /// The sockets that take packets for one of `ports`, of a family or, with nil, of either.
    ///
    /// The kernel lists all sockets of the transport, so the time grows with their number, not with that of the ports.
    public mutating func listeners(
        on ports: ClosedRange<UInt16>, transport: ListenerTransport, family: IPFamily? = nil
    ) throws(NetlinkError) -> [Listener] {
        // A socket of AF_INET6 can take IPv4 packets, never the other way round.
        let socketFamilies = family == .ipv6 ? [AF_INET6] : [AF_INET, AF_INET6]
        var listeners: [Listener] = []
        for socketFamily in socketFamilies {
            var header = inet_diag_req_v2()
            header.sdiag_family = UInt8(truncatingIfNeeded: socketFamily)
            switch transport {
            case .tcp:
                header.sdiag_protocol = UInt8(truncatingIfNeeded: IPPROTO_TCP)
                header.idiag_states = 1 << UInt32(TCP_LISTEN)
            case .udp:
                header.sdiag_protocol = UInt8(truncatingIfNeeded: IPPROTO_UDP)
                header.idiag_states = 1 << UInt32(TCP_CLOSE)
            }
            listeners += try dump(
                "list the \(transport) sockets", type: Int(SOCK_DIAG_BY_FAMILY), header: header
            ) { message in
                guard let listener = Listener(message), ports.contains(listener.port) else { return nil }
                guard let family else { return listener }
                return listener.accepts(family) ? listener : nil
            }
        }
        return listeners
    }
}
