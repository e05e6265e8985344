internal import Glibc

/// The two versions of the Internet Protocol.
public enum IPFamily: UInt8, Sendable, Hashable, CaseIterable, CustomStringConvertible {
    case ipv4 = 4
    case ipv6 = 6

    /// The length of an address, in bits: 32 or 128.
    public var bitWidth: Int { self == .ipv4 ? 32 : 128 }

    /// `IPv4` or `IPv6`.
    public var description: String { self == .ipv4 ? "IPv4" : "IPv6" }
}

/// An IPv4 or IPv6 address, without a zone.
///
/// In memory both families are one 128-bit number, IPv4 as the IPv4-mapped `::ffff:a.b.c.d` of RFC 4291 2.5.5.2, as
/// in the datapath. So a mapped IPv6 address cannot be told from the IPv4 address in it, and the parser refuses it.
public struct IPAddress: Sendable, Hashable {
    /// The mapped form as a number: the first byte on the wire is the most significant.
    let bits: UInt128

    /// `::ffff:0.0.0.0`, the bits that all mapped IPv4 addresses begin with.
    static let mappedPrefix: UInt128 = 0xffff << 32

    init(bits: UInt128) {
        self.bits = bits
    }

    /// The IPv4 address of four bytes as they are on the wire, `IPAddress(192, 0, 2, 1)`.
    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
        let value = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
        self.bits = Self.mappedPrefix | UInt128(value)
    }

    /// The address in its wire form, or nil when `bytes` has neither 4 nor 16.
    ///
    /// 16 bytes with an IPv4-mapped address give the IPv4 address: a dual-stack socket names its IPv4 peers so.
    public init?(bytes: some Collection<UInt8>) {
        let value = bytes.prefix(16).reduce(UInt128(0)) { $0 << 8 | UInt128($1) }
        switch bytes.count {
        case 4: self.bits = Self.mappedPrefix | value
        case 16: self.bits = value
        default: return nil
        }
    }

    /// The address in its mapped form: 16 bytes in network order, as four words that lie in memory as `__be32[4]` do.
    public init(mapped: (UInt32, UInt32, UInt32, UInt32)) {
        let high = UInt64(UInt32(bigEndian: mapped.0)) << 32 | UInt64(UInt32(bigEndian: mapped.1))
        let low = UInt64(UInt32(bigEndian: mapped.2)) << 32 | UInt64(UInt32(bigEndian: mapped.3))
        self.bits = UInt128(high) << 64 | UInt128(low)
    }

    /// The mapped form, IPv4 as `::ffff:a.b.c.d`: four words in network order, for a `__be32[4]`.
    public var mapped: (UInt32, UInt32, UInt32, UInt32) {
        func word(_ shift: Int) -> UInt32 { UInt32(truncatingIfNeeded: bits >> UInt128(shift)).bigEndian }
        return (word(96), word(64), word(32), word(0))
    }

    /// The mapped form, IPv4 as `::ffff:a.b.c.d`: 16 bytes in network order.
    public var mappedBytes: [UInt8] { bytes(count: 16) }

    /// The address as it is on the wire: 4 or 16 bytes.
    public var bytes: [UInt8] { bytes(count: family == .ipv4 ? 4 : 16) }

    /// The last `count` bytes of the mapped form.
    private func bytes(count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: bits >> UInt128(8 * (count - 1 - $0))) }
    }

    /// Which version of the Internet Protocol the address belongs to.
    public var family: IPFamily { bits >> 32 == Self.mappedPrefix >> 32 ? .ipv4 : .ipv6 }

    /// The four bytes of an IPv4 address as a number, 192.0.2.1 being 0xc0000201.
    var ipv4Bits: UInt32 { UInt32(truncatingIfNeeded: bits) }

    /// Whether this is `0.0.0.0` or `::`, the address of no host.
    public var isUnspecified: Bool { bits == 0 || bits == Self.mappedPrefix }

    /// Whether packets to it never leave the host: `127.0.0.0/8` or `::1`.
    public var isLoopback: Bool {
        family == .ipv4 ? ipv4Bits >> 24 == 127 : bits == 1
    }

    /// Whether it names a group of hosts: `224.0.0.0/4` or `ff00::/8`.
    public var isMulticast: Bool {
        family == .ipv4 ? ipv4Bits >> 28 == 0xe : bits >> 120 == 0xff
    }

    /// Whether it is `255.255.255.255`, all hosts on the link.
    public var isLimitedBroadcast: Bool { family == .ipv4 && ipv4Bits == .max }

    /// Whether it has a meaning on one link only: `169.254.0.0/16` or `fe80::/10`.
    public var isLinkLocal: Bool {
        family == .ipv4 ? ipv4Bits >> 16 == 0xa9fe : bits >> 118 == 0x3fa
    }
}

extension IPAddress: Comparable {
    /// IPv4 before IPv6, then by number.
    public static func < (left: IPAddress, right: IPAddress) -> Bool {
        (left.family.rawValue, left.bits) < (right.family.rawValue, right.bits)
    }
}

extension IPAddress: CustomStringConvertible {
    /// The address as `init(parsing:)` reads it: dotted decimal, or the short form of RFC 5952.
    public var description: String {
        switch family {
        case .ipv4:
            let value = ipv4Bits
            return "\(value >> 24).\(value >> 16 & 0xff).\(value >> 8 & 0xff).\(value & 0xff)"
        case .ipv6:
            return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
                guard
                    inet_ntop(AF_INET6, mappedBytes, text.baseAddress, socklen_t(text.count)) != nil,
                    let start = text.baseAddress
                else { return "" }
                return String(cString: start)
            }
        }
    }
}

// MARK: - Parsing

extension IPAddress {
    private static let expected = "an address like 192.0.2.1 or 2001:db8::1"
    private static let expectedIPv4 = "an IPv4 address like 192.0.2.1"
    private static let expectedIPv6 = "an IPv6 address like 2001:db8::1"

    /// Parses an IPv4 address in dotted decimal or an IPv6 address of RFC 4291 2.2, without brackets or zone.
    ///
    /// - Throws: when the text is anything else; also for an IPv4-mapped IPv6 address, which is ambiguous here.
    public init(parsing text: String) throws(AddressError) {
        try self.init(parsing: text.utf8.span)
    }

    /// Parses the UTF-8 text of an address like `init(parsing:)` does the string, without a copy.
    public init(parsing text: Span<UInt8>) throws(AddressError) {
        func refuse(_ problem: String, expected: String = Self.expected) -> AddressError {
            AddressError(input: text, problem: problem, expected: expected)
        }
        guard !text.isEmpty else { throw refuse("there is no address") }
        guard !text.hasBlank else { throw refuse("an address has no spaces or control characters") }
        if text.firstIndex(of: ASCII.slash) != nil { throw refuse("a prefix length does not belong here") }
        if text.firstIndex(of: ASCII.percent) != nil {
            throw refuse("a zone (%interface) is not supported", expected: Self.expectedIPv6)
        }
        if text.firstIndex(of: ASCII.colon) != nil {
            self.bits = try Self.ipv6(text)
        } else {
            self.bits = try Self.mappedPrefix | UInt128(Self.ipv4(text))
        }
    }

    /// The number of an IPv4 address: four decimal numbers, without the octal and short forms of `inet_aton`.
    private static func ipv4(_ text: Span<UInt8>) throws(AddressError) -> UInt32 {
        var value: UInt32 = 0
        var start = 0
        for position in 1...4 {
            let end = text.firstIndex(of: ASCII.dot, from: start) ?? text.count
            func refuse(_ problem: String, expected: String = expectedIPv4) -> AddressError {
                AddressError(input: text, problem: problem, expected: expected)
            }
            let octet: UInt32
            do throws(DecimalProblem) {
                octet = try decimal(start..<end, in: text, atMost: 255)
            } catch {
                let written = String(utf8: text.extracting(start..<end))
                switch error {
                case .empty: throw refuse("number \(position) of the four is missing")
                case .notDecimal where position == 1:
                    throw refuse("not an address (names are not resolved)", expected: expected)
                case .notDecimal: throw refuse("\(written.debugDescription) is not a decimal number")
                case .leadingZero: throw refuse("the number \(written) has a leading zero, which some read as octal")
                case .tooLarge: throw refuse("the number \(written) is larger than 255")
                }
            }
            value = value << 8 | octet
            if position < 4, end == text.count { throw refuse("there are only \(position) of the four numbers") }
            if position == 4, end < text.count { throw refuse("there is more after the fourth number") }
            start = end + 1
        }
        return value
    }

    /// The number of an IPv6 address.
    private static func ipv6(_ text: Span<UInt8>) throws(AddressError) -> UInt128 {
        if text[0] == UInt8(ascii: "[") {
            throw AddressError(input: text, problem: "brackets do not belong here", expected: expectedIPv6)
        }
        let parsed: UInt128? = withUnsafeTemporaryAllocation(
            of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)
        ) { buffer in
            guard text.count < buffer.count else { return nil }
            for index in text.indices { buffer[index] = CChar(bitPattern: text[index]) }
            buffer[text.count] = 0
            var binary = in6_addr()
            guard inet_pton(AF_INET6, buffer.baseAddress, &binary) == 1 else { return nil }
            return withUnsafeBytes(of: &binary) { $0.reduce(0) { $0 << 8 | UInt128($1) } }
        }
        guard let bits = parsed else {
            throw AddressError(input: text, problem: "not an IPv6 address", expected: expectedIPv6)
        }
        guard bits >> 32 != mappedPrefix >> 32 else {
            throw AddressError(
                input: text, problem: "an IPv4-mapped IPv6 address is ambiguous",
                expected: "the IPv4 address itself, \(IPAddress(bits: bits))")
        }
        return bits
    }
}
