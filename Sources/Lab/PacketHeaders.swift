extension Packet {
    /// What is written where a checksum belongs.
    public enum Checksum: Sendable, Hashable {
        /// The right one.
        case correct
        /// The right one plus this, modulo 2^16: wrong, unless it is 0.
        case offBy(UInt16)
        /// Exactly this.
        case value(UInt16)
        /// The pseudo-header's sum alone, as a sender with checksum offload leaves it. TCP and UDP only.
        case partial
        /// No checksum: for UDP.
        public static let zero = Checksum.value(0)
    }

    /// The Ethernet header; the type field follows from what comes after it.
    public struct Ethernet: Sendable, Hashable {
        /// The receiver.
        public var destination: MAC = "02:00:00:00:00:01"
        /// The sender.
        public var source: MAC = "02:00:00:00:00:02"
        /// The tag's 16 bits (priority, DEI, VLAN identifier), if there is a tag.
        public var vlan: UInt16?
        /// Overrides the type that follows from the network header.
        public var type: UInt16?

        /// The default pair of addresses.
        public init() {}
    }

    /// The IPv4 header.
    public struct IPv4: Sendable, Hashable {
        /// Where from.
        public var source: Address
        /// Where to.
        public var destination: Address
        /// DSCP (6 bits) and ECN (2 bits).
        public var tos: UInt8 = 0
        /// The identification.
        public var identification: UInt16 = 0
        /// "Don't fragment".
        public var dontFragment = true
        /// "More fragments".
        public var moreFragments = false
        /// The fragment's place, in units of 8 bytes.
        public var fragmentOffset: UInt16 = 0
        /// The time to live.
        public var ttl: UInt8 = 64
        /// Overrides the protocol that follows from the transport header.
        public var protocolNumber: UInt8?
        /// Raw options, padded with zeros to a multiple of 4.
        public var options: [UInt8] = []
        /// Added to the right total length.
        public var totalLengthDelta = 0
        /// The header's checksum.
        public var checksum = Checksum.correct
    }

    /// The IPv6 header and its extension headers.
    public struct IPv6: Sendable, Hashable {
        /// Where from.
        public var source: Address
        /// Where to.
        public var destination: Address
        /// DSCP (6 bits) and ECN (2 bits).
        public var trafficClass: UInt8 = 0
        /// The flow label (20 bits).
        public var flowLabel: UInt32 = 0
        /// The hop limit.
        public var hopLimit: UInt8 = 64
        /// In the order of the wire.
        public var extensionHeaders: [ExtensionHeader] = []
        /// Overrides the next header that follows from the transport header, in the last of the headers.
        public var nextHeader: UInt8?
        /// Added to the right payload length.
        public var payloadLengthDelta = 0
    }

    /// An IPv6 extension header.
    public struct ExtensionHeader: Sendable, Hashable {
        /// What the header before it calls it.
        public var number: UInt8
        /// Everything after its first byte, the next header.
        public var body: [UInt8]

        /// Any header: its number, and everything after its first byte.
        public init(number: UInt8, body: [UInt8]) {
            self.number = number
            self.body = body
        }

        /// Hop-by-hop options; padded with PadN.
        public static func hopByHop(_ options: [UInt8] = []) -> Self { withOptions(0, options) }

        /// Destination options; padded with PadN.
        public static func destinationOptions(_ options: [UInt8] = []) -> Self { withOptions(60, options) }

        /// A fragment header; the offset in units of 8 bytes.
        public static func fragment(offset: UInt16, more: Bool, identification: UInt32) -> Self {
            let place = offset << 3 | (more ? 1 : 0)
            return Self(number: 44, body: [0] + place.networkBytes + identification.networkBytes)
        }

        private static func withOptions(_ number: UInt8, _ options: [UInt8]) -> Self {
            var body = options
            let missing = (8 - (body.count + 2) % 8) % 8
            if missing == 1 { body.append(0) }
            if missing > 1 { body += [1, UInt8(missing - 2)] + [UInt8](repeating: 0, count: missing - 2) }
            return Self(number: number, body: [UInt8((body.count + 2) / 8 - 1)] + body)
        }
    }

    /// An ARP message for IPv4 over Ethernet.
    public struct ARP: Sendable, Hashable {
        /// 1 request, 2 reply.
        public var operation: UInt16 = 1
        /// The sender's Ethernet address.
        public var senderMAC: MAC
        /// The sender's IPv4 address.
        public var sender: Address
        /// The target's Ethernet address, zeros in a request.
        public var targetMAC: MAC = "00:00:00:00:00:00"
        /// The target's IPv4 address.
        public var target: Address
    }
}

extension FixedWidthInteger {
    /// The bytes in network order.
    var networkBytes: [UInt8] { withUnsafeBytes(of: bigEndian) { Array($0) } }
}
