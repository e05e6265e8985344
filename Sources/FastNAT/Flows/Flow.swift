public import Addresses

/// An address and a port, printed `192.0.2.1:80` or `[2001:db8::1]:80`.
public struct Endpoint: Sendable, Hashable, CustomStringConvertible {
    /// The address.
    public let address: IPAddress
    /// The port, in host byte order.
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
    /// UDP: only the client has sent.
    case unreplied
    /// UDP: both sides have sent.
    case replied
    /// No flow but an external port that is kept for a container's: its destination has no port and, as a rule, no address.
    case endpoint
}

/// A connection, or an exchange of datagrams, through a mapping.
public struct Flow: Sendable, Hashable {
    /// TCP, UDP or SCTP.
    public let transport: TransportProtocol
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
