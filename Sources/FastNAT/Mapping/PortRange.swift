internal import Addresses

/// One port or consecutive ports, in host byte order; never port 0, never empty.
public struct PortRange: Sendable, Hashable {
    /// The lowest port, 1 or more.
    public let first: UInt16
    /// The highest port, not less than `first`.
    public let last: UInt16

    /// The ports from `first` to `last`, both included.
    ///
    /// - Throws: when one of them is 0, or when `last` is less than `first`.
    public init(first: UInt16, last: UInt16) throws(MappingError) {
        guard first != 0 else { throw .portZero(first == last ? "0" : "\(first)-\(last)") }
        guard first <= last else { throw .reversedPorts(first: first, last: last) }
        self.first = first
        self.last = last
    }

    /// One port.
    ///
    /// - Throws: when it is 0.
    public init(_ port: UInt16) throws(MappingError) {
        try self.init(first: port, last: port)
    }

    /// The number of ports, 1...65535.
    public var count: Int { Int(last) - Int(first) + 1 }

    /// Whether `port` is one of them.
    public func contains(_ port: UInt16) -> Bool { first <= port && port <= last }

    /// Whether a port is in both ranges.
    public func overlaps(_ other: PortRange) -> Bool { first <= other.last && other.first <= last }
}

extension PortRange: CustomStringConvertible {
    /// `80` or `8000-8099`, as `init(parsing:)` reads it.
    public var description: String { first == last ? "\(first)" : "\(first)-\(last)" }
}

extension PortRange {
    /// Parses `PORT` or `FIRST-LAST`, in decimal.
    ///
    /// - Throws: when the text is anything else, when a port is 0 or above 65535, or when the range is reversed.
    public init(parsing text: String) throws(MappingError) {
        try self.init(parsing: text.utf8.span)
    }

    init(parsing text: Span<UInt8>) throws(MappingError) {
        func port(_ range: Range<Int>) throws(MappingError) -> UInt16 {
            do throws(DecimalProblem) {
                return UInt16(truncatingIfNeeded: try decimal(range, in: text, atMost: UInt32(UInt16.max)))
            } catch {
                let problem =
                    switch error {
                    case .empty: "a port is missing"
                    case .notDecimal: "not a decimal number"
                    case .leadingZero: "a port has a leading zero"
                    case .tooLarge: "a port is above 65535"
                    }
                throw .invalidPorts(String(utf8: text), problem: problem)
            }
        }
        guard let dash = text.firstIndex(of: UInt8(ascii: "-")) else {
            try self.init(port(0..<text.count))
            return
        }
        try self.init(first: port(0..<dash), last: port(dash + 1..<text.count))
    }
}
