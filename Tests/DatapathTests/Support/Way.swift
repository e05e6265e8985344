import FastNATTesting
import Testing

/// Where a program runs.
enum Hook: String, CaseIterable {
    case tc, xdp
}

/// Which side of the host a packet comes in on.
enum Side {
    /// From clients.
    case uplink
    /// From containers. At XDP there is one program, for both.
    case container
}

/// TCP, UDP or, where a test says so, SCTP or ICMP echo.
enum Transport: String {
    case tcp, udp, sctp, icmp

    /// Those whose ports are translated.
    static let allCases: [Transport] = [.tcp, .udp]

    /// A packet; of SCTP, with the chunk that means what the flags do; of ICMP, an echo.
    func packet(
        from source: Packet.Endpoint, to destination: Packet.Endpoint, _ flags: Packet.TCPFlags,
        options: [UInt8] = [], payload: [UInt8], isRequest: Bool = true
    ) -> Packet {
        switch self {
        case .tcp: .tcp(from: source, to: destination, flags, options: options, payload: payload)
        case .udp: .udp(from: source, to: destination, payload: payload)
        case .sctp: .sctp(from: source, to: destination, Packet.SCTPChunk(flags), payload: payload)
        case .icmp: .echo(from: source, to: destination, isRequest: isRequest, payload: payload)
        }
    }
}

extension Packet.SCTPChunk {
    fileprivate init(_ flags: Packet.TCPFlags) {
        self =
            switch flags {
            case .syn: .initiate
            case [.syn, .ack]: .initiateAck
            case .rst: .abort
            case [.fin, .ack]: .shutdown
            default: .data
            }
    }
}

/// An address family, and the addresses that the test network gives it.
enum Family: String, CaseIterable, CustomTestStringConvertible {
    case ipv4, ipv6

    var testDescription: String { rawValue }

    /// The host's address that clients use.
    var host: Packet.Address { self == .ipv4 ? "192.0.2.1" : "2001:db8:1::1" }
    /// Another address of the host.
    var otherHost: Packet.Address { self == .ipv4 ? "192.0.2.2" : "2001:db8:1::2" }
    /// A client on the uplink's network.
    var client: Packet.Address { self == .ipv4 ? "192.0.2.100" : "2001:db8:1::100" }
    /// A client behind the gateway.
    var farClient: Packet.Address { self == .ipv4 ? "198.51.100.7" : "2001:db8:99::7" }
    /// The container that mappings lead to.
    var target: Packet.Address { self == .ipv4 ? "172.17.0.2" : "fd00:17::2" }
    /// Another container.
    var otherTarget: Packet.Address { self == .ipv4 ? "172.17.0.3" : "fd00:17::3" }
    /// The host's address on the containers' network.
    var gateway: Packet.Address { self == .ipv4 ? "172.17.0.1" : "fd00:17::1" }
    /// Somebody else's address, beyond the gateway.
    var stranger: Packet.Address { self == .ipv4 ? "203.0.113.9" : "2001:db8:aaaa::9" }
    /// Any local address, as a mapping's text has it.
    var any: Packet.Address { self == .ipv4 ? "0.0.0.0" : "::" }
    /// Places of the table that a flow takes.
    var places: Int { self == .ipv4 ? 1 : 2 }
    /// The IP header's length.
    var headerLength: Int { self == .ipv4 ? 20 : 40 }

    /// A mapping of ports of any local address, or of `host`: `mapping("8080/tcp", to: "80")`.
    func mapping(_ ports: String, to targetPorts: String, on host: Packet.Address? = nil, allow: [String] = [])
        -> String
    {
        let clause = allow.isEmpty ? "" : " allow=" + allow.joined(separator: ",")
        return "\(bracketed(host ?? any)):\(ports) \(bracketed(target)):\(targetPorts)\(clause)"
    }

    /// The address as it stands before a colon and a port.
    func bracketed(_ address: Packet.Address) -> String { address.isIPv6 ? "[\(address)]" : "\(address)" }
}

/// A hook and a family: what nearly every test is run with.
struct Way: Sendable, CustomTestStringConvertible {
    let hook: Hook
    let family: Family

    var testDescription: String { "\(hook), \(family)" }

    static let all = Hook.allCases.flatMap { hook in Family.allCases.map { Way(hook: hook, family: $0) } }
}

/// A hook, a family and a transport protocol.
struct TransportWay: Sendable, CustomTestStringConvertible {
    let hook: Hook
    let family: Family
    let transport: Transport

    var testDescription: String { "\(hook), \(family), \(transport)" }

    static let all = Way.all.flatMap { way in
        Transport.allCases.map { TransportWay(hook: way.hook, family: way.family, transport: $0) }
    }
}

/// The same without the hook, for what happens at TC alone.
struct Kind: Sendable, CustomTestStringConvertible {
    let family: Family
    let transport: Transport

    var testDescription: String { "\(family), \(transport)" }

    static let all = Family.allCases.flatMap { family in
        Transport.allCases.map { Kind(family: family, transport: $0) }
    }
    /// ICMP echo.
    static let echo = Family.allCases.map { Kind(family: $0, transport: .icmp) }
    /// What containers begin.
    static let outbound = all + echo
}
