/// The 48-bit hardware address of an Ethernet interface.
public struct MACAddress: Sendable, Hashable {
    /// The six bytes as a number, the first on the wire being the most significant.
    private let bits: UInt64

    /// The address of six bytes as they are on the wire, or nil when `bytes` is not six.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 6 else { return nil }
        self.bits = bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The address of a C array `unsigned char[6]`, in the order on the wire.
    public init(octets: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8)) {
        let high = UInt64(octets.0) << 40 | UInt64(octets.1) << 32 | UInt64(octets.2) << 24
        let low = UInt64(octets.3) << 16 | UInt64(octets.4) << 8 | UInt64(octets.5)
        self.bits = high | low
    }

    /// The six bytes as on the wire, for a C array `unsigned char[6]`.
    public var octets: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8) {
        (byte(0), byte(1), byte(2), byte(3), byte(4), byte(5))
    }

    /// The six bytes as on the wire.
    public var bytes: [UInt8] { (0..<6).map(byte) }

    private func byte(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: bits >> UInt64(40 - 8 * index)) }

    /// Whether all bits are zero: the address of an interface that has none.
    public var isZero: Bool { bits == 0 }

    /// Whether it names a group, the broadcast address included (IEEE 802 I/G bit).
    public var isMulticast: Bool { byte(0) & 1 != 0 }
}

extension MACAddress: Comparable {
    /// By number.
    public static func < (left: MACAddress, right: MACAddress) -> Bool { left.bits < right.bits }
}

extension MACAddress: CustomStringConvertible {
    /// Six pairs of lower-case hexadecimal digits with colons between them.
    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}

extension MACAddress {
    /// Parses six pairs of hexadecimal digits with colons between them.
    ///
    /// - Throws: when the text is anything else.
    public init(parsing text: String) throws(AddressError) {
        func refuse(_ problem: String) -> AddressError {
            AddressError(input: text, problem: problem, expected: "a MAC address like 02:00:5e:10:00:01")
        }
        let parts = text.utf8.split(separator: ASCII.colon, omittingEmptySubsequences: false)
        guard parts.count == 6 else { throw refuse("there are \(parts.count) of the six bytes") }
        var value: UInt64 = 0
        for part in parts {
            guard part.count == 2, part.first != UInt8(ascii: "+"), let byte = UInt8(Substring(part), radix: 16) else {
                throw refuse("\(String(Substring(part)).debugDescription) is not two hexadecimal digits")
            }
            value = value << 8 | UInt64(byte)
        }
        self.bits = value
    }
}
