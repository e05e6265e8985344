/// The ASCII characters that addresses are written with.
package enum ASCII {
    package static let percent = UInt8(ascii: "%")
    package static let dot = UInt8(ascii: ".")
    package static let slash = UInt8(ascii: "/")
    package static let zero = UInt8(ascii: "0")
    package static let nine = UInt8(ascii: "9")
    package static let colon = UInt8(ascii: ":")
}

extension Span<UInt8> {
    /// The index of the first `byte` at or after `start`, or nil.
    package func firstIndex(of byte: UInt8, from start: Int = 0) -> Int? {
        var index = start
        while index < count {
            if self[index] == byte { return index }
            index += 1
        }
        return nil
    }

    /// Whether a blank or a control character is in the text.
    package var hasBlank: Bool {
        for index in indices where self[index] <= UInt8(ascii: " ") || self[index] == 0x7f { return true }
        return false
    }
}

extension String {
    /// A copy of the UTF-8 text `utf8`; what is not UTF-8 becomes U+FFFD.
    package init(utf8: Span<UInt8>) {
        self = utf8.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
    }
}

/// Why `decimal(_:in:atMost:)` refused a number.
package enum DecimalProblem: Error {
    case empty
    case notDecimal
    case leadingZero
    case tooLarge
}

/// The decimal number in `range` of `text`, without a sign or leading zeros, not above `limit`.
package func decimal(
    _ range: Range<Int>, in text: Span<UInt8>, atMost limit: UInt32
) throws(DecimalProblem) -> UInt32 {
    guard !range.isEmpty else { throw .empty }
    var value: UInt64 = 0
    for index in range {
        let byte = text[index]
        guard byte >= ASCII.zero, byte <= ASCII.nine else { throw .notDecimal }
        value = min(value * 10 + UInt64(byte - ASCII.zero), UInt64(UInt32.max) + 1)
    }
    guard range.count == 1 || text[range.lowerBound] != ASCII.zero else { throw .leadingZero }
    guard value <= UInt64(limit) else { throw .tooLarge }
    return UInt32(value)
}
