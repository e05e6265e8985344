public import Addresses

/// Where connections come in: `[HOSTIP:]PORT[-END][/PROTOCOL]`.
public struct Listen: Sendable, Hashable {
    /// The local address, or nil for any of `family`.
    public let address: IPAddress?
    /// The family that is listened on; nil when the text named no address: the target's family then.
    public let family: IPFamily?
    /// The ports, in host byte order.
    public let ports: PortRange
    /// The protocol of the ports.
    public let transport: TransportProtocol

    /// The ports on one local address; `0.0.0.0` and `::` mean any of their family.
    ///
    /// - Throws: for a multicast or broadcast address.
    public init(address: IPAddress, ports: PortRange, transport: TransportProtocol = .tcp) throws(MappingError) {
        if !address.isUnspecified, let kind = address.unusableKind {
            throw .unusableListenAddress(address, kind: kind)
        }
        self.address = address.isUnspecified ? nil : address
        self.family = address.family
        self.ports = ports
        self.transport = transport
    }

    /// The ports on all local addresses, of one family or, with nil, of whichever family the target has.
    public init(anyAddressOf family: IPFamily? = nil, ports: PortRange, transport: TransportProtocol = .tcp) {
        self.address = nil
        self.family = family
        self.ports = ports
        self.transport = transport
    }
}

extension Listen: CustomStringConvertible {
    /// The listen part as `init(parsing:)` reads it, always with its protocol: `192.0.2.1:80/tcp`, `[::]:53/udp`.
    public var description: String {
        guard let family else { return "\(ports)/\(transport)" }
        let host = address ?? (family == .ipv4 ? .anyIPv4 : .anyIPv6)
        return "\(HostPorts.description(host, ports))/\(transport)"
    }
}

extension Listen {
    /// Parses `[HOSTIP:]PORT[-END][/tcp|/udp|/sctp]`; an IPv6 address stands in brackets, the protocol is TCP by default.
    ///
    /// - Throws: when the text is anything else, or for a multicast or broadcast address.
    public init(parsing text: String) throws(MappingError) {
        try self.init(parsing: text.utf8.span)
    }

    init(parsing text: Span<UInt8>) throws(MappingError) {
        var transport = TransportProtocol.tcp
        var end = text.count
        if let slash = text.firstIndex(of: ASCII.slash) {
            let name = String(utf8: text.extracting(slash + 1..<text.count))
            guard let named = TransportProtocol(name: name) else { throw .unknownProtocol(name) }
            transport = named
            end = slash
        }
        let parts = try HostPorts(parsing: text.extracting(0..<end), as: .listen)
        if let address = parts.address {
            try self.init(address: address, ports: parts.ports, transport: transport)
        } else {
            self.init(ports: parts.ports, transport: transport)
        }
    }
}

extension IPAddress {
    /// `0.0.0.0`
    static let anyIPv4 = IPAddress(0, 0, 0, 0)
    /// `::`
    static let anyIPv6 = IPAddress(mapped: (0, 0, 0, 0))
}
