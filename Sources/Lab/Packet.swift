/// A packet as a test describes it; `bytes` is what goes over the wire, with every length and checksum computed.
///
/// It is the oracle for the datapath and shares no code with it. Parts that are absent read as nil, and setting through
/// them changes nothing: `packet.with { $0.tcp?.flags = .syn; $0.ttl = 63 }`.
public struct Packet: Sendable, Hashable {
    /// The network header.
    public enum Network: Sendable, Hashable {
        /// IPv4.
        case ipv4(IPv4)
        /// IPv6.
        case ipv6(IPv6)
        /// ARP.
        case arp(ARP)
        /// Only the payload after the Ethernet header.
        case raw
    }

    /// The transport header.
    public enum Transport: Sendable, Hashable {
        /// TCP.
        case tcp(TCP)
        /// UDP.
        case udp(UDP)
        /// SCTP, with one chunk.
        case sctp(SCTP)
        /// ICMPv4 or ICMPv6.
        case icmp(ICMP)
        /// Only the payload after the network header: set the protocol there.
        case raw
    }

    /// The Ethernet header; nil for a packet that begins with its network header.
    public var ethernet: Ethernet? = Ethernet()
    /// The network header.
    public var network: Network
    /// The transport header.
    public var transport: Transport
    /// What follows the headers.
    public var payload: [UInt8]
    /// Cuts the frame off after so many bytes, lengths and checksums being those of the whole.
    public var truncation: Int?

    /// A packet from its parts.
    public init(_ network: Network, _ transport: Transport = .raw, payload: [UInt8] = []) {
        self.network = network
        self.transport = transport
        self.payload = payload
    }

    /// A changed copy.
    public func with(_ change: (inout Packet) -> Void) -> Packet {
        var copy = self
        change(&copy)
        return copy
    }

    /// A datagram.
    public static func udp(from source: Endpoint, to destination: Endpoint, payload: [UInt8] = []) -> Packet {
        let header = UDP(sourcePort: source.port, destinationPort: destination.port)
        return Packet(.between(source.address, destination.address), .udp(header), payload: payload)
    }

    /// A segment.
    public static func tcp(
        from source: Endpoint, to destination: Endpoint, _ flags: TCPFlags = .ack, sequence: UInt32 = 1_000,
        acknowledgement: UInt32 = 0, options: [UInt8] = [], payload: [UInt8] = []
    ) -> Packet {
        let header = TCP(
            sourcePort: source.port, destinationPort: destination.port, sequence: sequence,
            acknowledgement: acknowledgement, flags: flags, options: options)
        return Packet(.between(source.address, destination.address), .tcp(header), payload: payload)
    }

    /// An SCTP packet of one chunk, whose value is the payload.
    public static func sctp(
        from source: Endpoint, to destination: Endpoint, _ chunk: SCTPChunk, tag: UInt32 = 1_000, payload: [UInt8] = []
    ) -> Packet {
        let header = SCTP(
            sourcePort: source.port, destinationPort: destination.port, verificationTag: chunk == .initiate ? 0 : tag,
            chunk: chunk)
        return Packet(.between(source.address, destination.address), .sctp(header), payload: payload)
    }

    /// Any ICMP message of the addresses' family.
    public static func icmp(
        from source: Address, to destination: Address, type: UInt8, code: UInt8 = 0, rest: UInt32 = 0,
        payload: [UInt8] = []
    ) -> Packet {
        let header = ICMP(type: type, code: code, rest: rest)
        return Packet(.between(source, destination), .icmp(header), payload: payload)
    }

    /// An echo request.
    public static func echoRequest(
        from source: Address, to destination: Address, identifier: UInt16, sequence: UInt16 = 1,
        payload: [UInt8] = []
    ) -> Packet {
        let rest = UInt32(identifier) << 16 | UInt32(sequence)
        let type: UInt8 = source.isIPv6 ? 128 : 8
        return icmp(from: source, to: destination, type: type, rest: rest, payload: payload)
    }

    /// An echo reply.
    public static func echoReply(
        from source: Address, to destination: Address, identifier: UInt16, sequence: UInt16 = 1,
        payload: [UInt8] = []
    ) -> Packet {
        let rest = UInt32(identifier) << 16 | UInt32(sequence)
        let type: UInt8 = source.isIPv6 ? 129 : 0
        return icmp(from: source, to: destination, type: type, rest: rest, payload: payload)
    }

    /// An ICMP error about `embedded`, which is quoted from its network header on, at most `limit` bytes of it.
    public static func icmpError(
        from source: Address, to destination: Address, _ kind: ICMPErrorKind, about embedded: Packet,
        limit: Int = 1_232
    ) -> Packet {
        let (type, code, rest) = kind.fields(isIPv6: source.isIPv6)
        let quoted = Array(embedded.with { $0.ethernet = nil }.bytes.prefix(limit))
        return icmp(from: source, to: destination, type: type, code: code, rest: rest, payload: quoted)
    }

    /// An IP packet of any protocol, with only a payload.
    public static func ip(
        from source: Address, to destination: Address, protocolNumber: UInt8, payload: [UInt8] = []
    ) -> Packet {
        Packet(.between(source, destination), .raw, payload: payload).with {
            $0.ipv4?.protocolNumber = protocolNumber
            $0.ipv6?.nextHeader = protocolNumber
        }
    }

    /// An ARP request, to everybody.
    public static func arpRequest(from sender: Address, _ senderMAC: MAC, target: Address) -> Packet {
        Packet(.arp(ARP(senderMAC: senderMAC, sender: sender, target: target))).with {
            $0.ethernet?.source = senderMAC
            $0.ethernet?.destination = .broadcast
        }
    }

    /// A frame of some type with only a payload.
    public static func raw(type: UInt16, payload: [UInt8]) -> Packet {
        Packet(.raw, payload: payload).with { $0.ethernet?.type = type }
    }
}

/// What an ICMP error says, in either family.
public enum ICMPErrorKind: Sendable, Hashable {
    /// Nobody listens on the port.
    case portUnreachable
    /// No such host (ICMPv6: address unreachable).
    case hostUnreachable
    /// No route (ICMPv4: network unreachable).
    case noRoute
    /// Forbidden by a filter.
    case prohibited
    /// The time to live ran out on the way.
    case timeExceeded
    /// Too big for the next link, whose MTU this is.
    case tooBig(mtu: UInt32)

    /// Type, code and the four bytes after the checksum, in the family.
    public func fields(isIPv6: Bool) -> (type: UInt8, code: UInt8, rest: UInt32) {
        switch self {
        case .portUnreachable: isIPv6 ? (1, 4, 0) : (3, 3, 0)
        case .hostUnreachable: isIPv6 ? (1, 3, 0) : (3, 1, 0)
        case .noRoute: isIPv6 ? (1, 0, 0) : (3, 0, 0)
        case .prohibited: isIPv6 ? (1, 1, 0) : (3, 13, 0)
        case .timeExceeded: isIPv6 ? (3, 0, 0) : (11, 0, 0)
        case .tooBig(let mtu): isIPv6 ? (2, 0, mtu) : (3, 4, mtu & 0xffff)
        }
    }
}

extension Packet.Network {
    /// The header between two addresses of one family.
    public static func between(_ source: Packet.Address, _ destination: Packet.Address) -> Self {
        precondition(source.isIPv6 == destination.isIPv6, "both addresses of one family")
        return source.isIPv6
            ? .ipv6(Packet.IPv6(source: source, destination: destination))
            : .ipv4(Packet.IPv4(source: source, destination: destination))
    }
}
