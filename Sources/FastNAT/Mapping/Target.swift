public import Addresses

/// Where connections go: `IP:PORT[-END]`, the container's own address and its ports.
public struct Target: Sendable, Hashable {
    /// The address that packets are forwarded to: one host's, routable.
    public let address: IPAddress
    /// The ports, in host byte order.
    public let ports: PortRange

    /// The ports of one host.
    ///
    /// - Throws: for an address that packets cannot be forwarded to: unspecified, multicast, broadcast, loopback, or
    ///   an IPv6 link-local one (RFC 4291 2.5.6).
    public init(address: IPAddress, ports: PortRange) throws(MappingError) {
        if let kind = address.unusableKind { throw .unusableTargetAddress(address, kind: kind) }
        if address.isLoopback { throw .unusableTargetAddress(address, kind: "loopback") }
        if address.family == .ipv6, address.isLinkLocal { throw .unusableTargetAddress(address, kind: "link-local") }
        self.address = address
        self.ports = ports
    }
}

extension Target: CustomStringConvertible {
    /// The target as `init(parsing:)` reads it: `172.17.0.2:80`, `[2001:db8::2]:8000-8099`.
    public var description: String { HostPorts.description(address, ports) }
}

extension Target {
    /// Parses `IP:PORT[-END]`; an IPv6 address stands in brackets.
    ///
    /// - Throws: when the text is anything else, or for an address that packets cannot be forwarded to.
    public init(parsing text: String) throws(MappingError) {
        try self.init(parsing: text.utf8.span)
    }

    init(parsing text: Span<UInt8>) throws(MappingError) {
        if text.firstIndex(of: ASCII.slash) != nil {
            throw .malformed(
                .target, text: String(utf8: text), problem: "the protocol belongs to the listen part")
        }
        let parts = try HostPorts(parsing: text, as: .target)
        guard let address = parts.address else {
            throw .malformed(.target, text: String(utf8: text), problem: "the address is missing")
        }
        try self.init(address: address, ports: parts.ports)
    }
}
