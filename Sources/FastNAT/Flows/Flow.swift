public import Addresses

/// An address and a port, printed `192.0.2.1:80` or `[2001:db8::1]:80`.
public struct Endpoint: Sendable, Hashable, CustomStringConvertible {
    /// The address.
    public let address: IPAddress
    /// The port, or of ICMP echo the identifier, in host byte order.
    public let port: UInt16

    /// Both as one text.
    public var description: String {
        address.family == .ipv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}

/// One direction of a flow: its packets as they arrive, and how many there were.
public struct FlowDirection: Sendable, Hashable {
    /// Where the packets come from.
    public let source: Endpoint
    /// Where they were sent.
    public let destination: Endpoint
    /// Packets; a packet that was segmented later counts once.
    public let packets: UInt64
    /// Bytes of these packets: IP headers and what follows.
    public let bytes: UInt64
}

/// How far a flow has come.
public enum FlowState: String, Sendable, Hashable {
    /// TCP, SCTP: the handshake is not complete.
    case halfOpen = "half-open"
    /// TCP, SCTP: established; data may flow.
    case established
    /// TCP, SCTP: ended by both sides, or reset.
    case closing
    /// UDP, ICMP: only the client has sent.
    case unreplied
    /// UDP, ICMP: both sides have sent.
    case replied
    /// No flow but an external port that is kept for a container's: its destination has no port and, as a rule, no address.
    case endpoint
}

/// What a flow's packets are, numbered as by IANA and in the IP header. Each has ports, or an echo identifier in their place.
public enum FlowProtocol: UInt8, Sendable, Hashable {
    case icmp = 1
    case tcp = 6
    case udp = 17
    case icmpv6 = 58
    case sctp = 132

    /// The name in lists, such as `tcp`.
    public var name: String {
        switch self {
        case .icmp: "icmp"
        case .tcp: "tcp"
        case .udp: "udp"
        case .icmpv6: "icmpv6"
        case .sctp: "sctp"
        }
    }

    /// Whether its flows begin and end with packets that say so.
    var hasHandshake: Bool { self == .tcp || self == .sctp }

    /// Whether there are identifiers in the place of ports.
    public var isEcho: Bool { self == .icmp || self == .icmpv6 }
}

/// A connection, or an exchange of datagrams, through a mapping or a masquerade.
public struct Flow: Sendable, Hashable {
    /// What its packets are.
    public let `protocol`: FlowProtocol
    /// How far it has come.
    public let state: FlowState
    /// From the client to the published port.
    public let original: FlowDirection
    /// From the target to the client.
    public let reply: FlowDirection
    /// Seconds since its first packet.
    public let age: Double
    /// Seconds until it ends, if no packet comes.
    public let expires: Double
}
