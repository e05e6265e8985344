import Glibc

extension Packet {
    /// An IPv4 or IPv6 address, written as a string literal: `"192.0.2.1"`, `"2001:db8::1"`.
    public struct Address: Sendable, Hashable, CustomStringConvertible, ExpressibleByStringInterpolation {
        /// 4 or 16 bytes in network order.
        public let bytes: [UInt8]

        /// Whether this is an IPv6 address.
        public var isIPv6: Bool { bytes.count == 16 }

        /// Parses either form.
        public init(_ text: String) throws(TestingError) {
            var buffer = [UInt8](repeating: 0, count: 16)
            if inet_pton(AF_INET, text, &buffer) == 1 {
                bytes = Array(buffer[..<4])
            } else if inet_pton(AF_INET6, text, &buffer) == 1 {
                bytes = buffer
            } else {
                throw .malformed("address '\(text)'")
            }
        }

        /// 4 or 16 bytes in network order.
        public init(bytes: some Sequence<UInt8>) {
            self.bytes = Array(bytes)
            precondition(self.bytes.count == 4 || self.bytes.count == 16, "an address has 4 or 16 bytes")
        }

        /// A literal that is no address is a mistake in the test.
        public init(stringLiteral text: String) {
            self = orStop { () throws(TestingError) in try Address(text) }
        }

        /// The usual text form.
        public var description: String {
            var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            inet_ntop(isIPv6 ? AF_INET6 : AF_INET, bytes, &text, socklen_t(text.count))
            return text.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
        }
    }

    /// An address and a port, written as a string literal: `"192.0.2.1:80"`, `"[2001:db8::1]:80"`.
    public struct Endpoint: Sendable, Hashable, CustomStringConvertible, ExpressibleByStringInterpolation {
        /// The address.
        public var address: Address
        /// The port, or an ICMP identifier.
        public var port: UInt16

        /// Joins an address and a port.
        public init(_ address: Address, port: UInt16) {
            self.address = address
            self.port = port
        }

        /// Parses either form.
        public init(_ text: String) throws(TestingError) {
            guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
                throw .malformed("endpoint '\(text)'")
            }
            var host = text[..<colon]
            let bracketed = host.hasPrefix("[") && host.hasSuffix("]")
            if bracketed { host = host.dropFirst().dropLast() }
            address = try Address(String(host))
            self.port = port
            if address.isIPv6 != bracketed { throw .malformed("endpoint '\(text)'") }
        }

        /// A literal that is no endpoint is a mistake in the test.
        public init(stringLiteral text: String) {
            self = orStop { () throws(TestingError) in try Endpoint(text) }
        }

        /// The text that it is parsed from.
        public var description: String { address.isIPv6 ? "[\(address)]:\(port)" : "\(address):\(port)" }
    }

    /// An Ethernet address, written as a string literal: `"02:00:00:00:00:01"`.
    public struct MAC: Sendable, Hashable, CustomStringConvertible, ExpressibleByStringInterpolation {
        /// 6 bytes.
        public let bytes: [UInt8]

        /// To everybody on the link.
        public static let broadcast: MAC = "ff:ff:ff:ff:ff:ff"

        /// Parses six hexadecimal bytes with colons.
        public init(_ text: String) throws(TestingError) {
            bytes = text.split(separator: ":").compactMap { UInt8($0, radix: 16) }
            if bytes.count != 6 || text.count != 17 { throw .malformed("MAC address '\(text)'") }
        }

        /// 6 bytes.
        public init(bytes: some Sequence<UInt8>) {
            self.bytes = Array(bytes)
            precondition(self.bytes.count == 6, "a MAC address has 6 bytes")
        }

        /// A literal that is no MAC address is a mistake in the test.
        public init(stringLiteral text: String) {
            self = orStop { () throws(TestingError) in try MAC(text) }
        }

        /// Six hexadecimal bytes with colons.
        public var description: String { bytes.map { hex($0, digits: 2) }.joined(separator: ":") }
    }
}

/// For literals, which cannot throw.
private func orStop<T>(_ body: () throws(TestingError) -> T) -> T {
    do throws(TestingError) { return try body() } catch { preconditionFailure(error.description) }
}

/// Lower-case hexadecimal with leading zeros.
package func hex(_ value: some BinaryInteger, digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}
