public import Addresses
internal import CLinux
internal import CMnl
internal import Glibc

/// The way that packets to an address take from this host.
public struct Route: Sendable, Hashable {
    /// What the kernel does with packets on the route.
    public enum Kind: Sendable, Hashable {
        /// Sends them to the gateway, or to the address itself on the link.
        case unicast
        /// Delivers them here: the address is the host's own.
        case local
        /// Sends them as link broadcasts.
        case broadcast
        /// Sends them to a multicast group.
        case multicast
        /// Another kind, `RTN_*` of `<linux/rtnetlink.h>`.
        case other(UInt8)
    }

    /// The address that was looked up.
    public let destination: IPAddress
    /// What the kernel does with packets on the route.
    public let kind: Kind
    /// The index of the interface that packets leave by; loopback's for a local IPv4 address.
    public let interfaceIndex: UInt32
    /// The next router, of either family (RFC 5549); nil when the destination is on the link.
    public let gateway: IPAddress?
    /// The source address that the host itself would use.
    public let preferredSource: IPAddress?
}

extension IPFamily {
    /// `AF_INET` or `AF_INET6`.
    var number: UInt8 { UInt8(truncatingIfNeeded: self == .ipv4 ? AF_INET : AF_INET6) }
}

extension NetlinkSocket<RouteBus> {
    /// Looks up the route for packets to `destination`, from `source` or from the host itself.
    ///
    /// The lookup is the one for packets that this host sends; policy rules for forwarded packets (`iif`) do not match.
    ///
    /// - Throws: `.noRoute` when packets would not leave, also when `source` is not an address of this host.
    public mutating func route(
        to destination: IPAddress, from source: IPAddress? = nil
    ) throws(NetlinkError) -> Route {
        let attempt = "look up the route to \(destination)"
        if let source, source.family != destination.family { throw .noRoute(to: destination, errno: EAFNOSUPPORT) }
        let width = UInt8(destination.family.bitWidth)
        var header = rtmsg()
        header.rtm_family = destination.family.number
        header.rtm_dst_len = width
        header.rtm_src_len = source == nil ? 0 : width
        let answer: Answer
        do throws(NetlinkError) {
            answer = try get(attempt, type: RTM_GETROUTE, header: header) { request in
                request.put(RTA_DST.rawValue, destination)
                if let source { request.put(RTA_SRC.rawValue, source) }
            } parse: { message in
                Answer(message)
            }
        } catch .system(_, let code) where Self.noRouteCodes.contains(code) {
            throw .noRoute(to: destination, errno: code)
        }
        // IPv4 answers such a route with an error, IPv6 with the route.
        switch Int(answer.type) {
        case RTN_UNREACHABLE, RTN_THROW: throw .noRoute(to: destination, errno: EHOSTUNREACH)
        case RTN_PROHIBIT: throw .noRoute(to: destination, errno: EACCES)
        case RTN_BLACKHOLE: throw .noRoute(to: destination, errno: EINVAL)
        default: break
        }
        guard let interfaceIndex = answer.interfaceIndex else { throw .malformed(attempt: attempt) }
        return Route(
            destination: destination, kind: Route.Kind(answer.type), interfaceIndex: interfaceIndex,
            gateway: answer.gateway, preferredSource: answer.preferredSource)
    }

    /// What the kernel answers for no route, `unreachable`, `prohibit` and `blackhole`.
    private static var noRouteCodes: [Int32] { [ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL] }
}

/// The kernel's answer, before we know whether it is a way out.
private struct Answer {
    let type: UInt8
    let interfaceIndex: UInt32?
    let gateway: IPAddress?
    let preferredSource: IPAddress?

    init?(_ message: Message) {
        guard let header = message.payload(as: rtmsg.self) else { return nil }
        let attributes = message.attributes(after: rtmsg.self, upTo: RTA_VIA.rawValue)
        type = header.rtm_type
        interfaceIndex = attributes.uint32(RTA_OIF.rawValue)
        // struct rtvia: the family in the first two bytes, then the address.
        let via = attributes.bytes(RTA_VIA.rawValue).flatMap {
            IPAddress(bytes: $0.dropFirst(MemoryLayout<rtvia>.size))
        }
        gateway = attributes.address(RTA_GATEWAY.rawValue) ?? via
        preferredSource = attributes.address(RTA_PREFSRC.rawValue)
    }
}

extension Route.Kind {
    /// The kind with the kernel's number, `RTN_*`.
    fileprivate init(_ type: UInt8) {
        self =
            switch Int(type) {
            case RTN_UNICAST: .unicast
            case RTN_LOCAL: .local
            case RTN_BROADCAST: .broadcast
            case RTN_MULTICAST: .multicast
            default: .other(type)
            }
    }
}
