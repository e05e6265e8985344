/// A network in CIDR notation: an address whose host bits are zero, and the number of bits that matter.
public struct IPPrefix: Sendable, Hashable {
    /// The network's first address, host bits zero.
    public let address: IPAddress
    /// The number of leading bits that all members share: 0...32 for IPv4, 0...128 for IPv6.
    public let length: Int

    /// The network of `length` bits that begins with `address`.
    ///
    /// - Throws: when the length is not one of the family's, or when `address` has host bits.
    public init(_ address: IPAddress, length: Int) throws(AddressError) {
        try self.init(address, length: length, input: "\(address)/\(length)")
    }

    /// The network of one address: /32 or /128.
    public init(_ address: IPAddress) {
        self.address = address
        self.length = address.family.bitWidth
    }

    /// The network of `length` bits that `address` is in.
    ///
    /// - Throws: when the length is not one of the family's.
    public init(around address: IPAddress, length: Int) throws(AddressError) {
        let width = address.family.bitWidth
        let isPossible = (0...width).contains(length)
        let network = isPossible ? IPAddress(bits: address.bits & Self.mask(length + 128 - width)) : address
        try self.init(network, length: length)
    }

    private init(_ address: IPAddress, length: Int, input: @autoclosure () -> String) throws(AddressError) {
        let longest = address.family.bitWidth
        guard length >= 0, length <= longest else {
            throw AddressError(
                input: input(), problem: "an \(address.family) prefix length of \(length) is impossible",
                expected: "a length from 0 to \(longest)")
        }
        let network = IPAddress(bits: address.bits & Self.mask(length + 128 - longest))
        guard network == address else {
            throw AddressError(
                input: input(), problem: "there are bits set after the first \(length)",
                expected: "the network \(network)/\(length) or the host \(address)/\(longest)")
        }
        self.address = address
        self.length = length
    }

    /// The `length` most significant bits set.
    private static func mask(_ length: Int) -> UInt128 {
        length == 0 ? 0 : UInt128.max << UInt128(128 - length)
    }

    /// Which version of the Internet Protocol the network belongs to.
    public var family: IPFamily { address.family }

    /// The length in the mapped form of the address, where IPv4 begins after 96 bits: 0...128, for an LPM trie's key.
    public var mappedLength: Int { length + 128 - family.bitWidth }

    /// Whether `candidate` is in this network; never for the other family.
    public func contains(_ candidate: IPAddress) -> Bool {
        candidate.family == family && candidate.bits & Self.mask(mappedLength) == address.bits
    }

    /// Networks that together are all that this one is not, within its family: one of each shorter length.
    public var complement: [IPPrefix] {
        (0..<length).compactMap { bit in
            let flipped = IPAddress(bits: address.bits ^ UInt128(1) << UInt128(family.bitWidth - 1 - bit))
            return try? IPPrefix(around: flipped, length: bit + 1)
        }
    }

    /// Whether all of `other` is in this network.
    public func contains(_ other: IPPrefix) -> Bool {
        other.length >= length && contains(other.address)
    }
}

extension IPPrefix: Comparable {
    /// By address, then the wider network first.
    public static func < (left: IPPrefix, right: IPPrefix) -> Bool {
        left.address == right.address ? left.length < right.length : left.address < right.address
    }
}

extension IPPrefix: CustomStringConvertible {
    /// The network as `init(parsing:)` reads it, always with its length.
    public var description: String { "\(address)/\(length)" }
}

extension IPPrefix {
    /// Parses `ADDRESS/LENGTH`; an address alone is /32 or /128.
    ///
    /// - Throws: when either half is wrong, or when the address has host bits: `10.1.2.3/8` is probably a mistake.
    public init(parsing text: String) throws(AddressError) {
        try self.init(parsing: text.utf8.span)
    }

    /// Parses the UTF-8 text of a network like `init(parsing:)` does the string, without a copy.
    public init(parsing text: Span<UInt8>) throws(AddressError) {
        guard let slash = text.firstIndex(of: ASCII.slash) else {
            self.init(try IPAddress(parsing: text))
            return
        }
        let address = try IPAddress(parsing: text.extracting(0..<slash))
        let length: UInt32
        do throws(DecimalProblem) {
            length = try decimal(slash + 1..<text.count, in: text, atMost: .max)
        } catch {
            let problem =
                switch error {
                case .empty: "the prefix length is missing"
                case .notDecimal: "the prefix length is not a decimal number"
                case .leadingZero: "the prefix length has a leading zero"
                case .tooLarge: "the prefix length is too large"
                }
            throw AddressError(
                input: text, problem: problem, expected: "a length from 0 to \(address.family.bitWidth)")
        }
        try self.init(address, length: Int(length), input: String(utf8: text))
    }
}
