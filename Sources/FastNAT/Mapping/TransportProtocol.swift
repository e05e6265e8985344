/// The protocols above IP whose ports can be mapped, numbered as by IANA and in the IP header.
public enum TransportProtocol: UInt8, Sendable, Hashable, CaseIterable {
    case tcp = 6
    case udp = 17
    case sctp = 132

    /// Whether its flows begin and end with packets that say so.
    var hasHandshake: Bool { self != .udp }

    /// The name in mappings, such as `tcp`.
    public var name: String {
        switch self {
        case .tcp: "tcp"
        case .udp: "udp"
        case .sctp: "sctp"
        }
    }

    /// The protocol called `name`, in lower case, or nil.
    public init?(name: some StringProtocol) {
        guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = match
    }
}

extension TransportProtocol: Comparable {
    /// By number.
    public static func < (left: TransportProtocol, right: TransportProtocol) -> Bool { left.rawValue < right.rawValue }
}

extension TransportProtocol: CustomStringConvertible {
    /// The name in mappings, such as `tcp`.
    public var description: String { name }
}
