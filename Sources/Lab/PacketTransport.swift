extension Packet {
    /// TCP's flags.
    public struct TCPFlags: OptionSet, Sendable, Hashable, CustomStringConvertible {
        /// The flags' byte.
        public let rawValue: UInt8
        /// From the flags' byte.
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// FIN.
        public static let fin = TCPFlags(rawValue: 0x01)
        /// SYN.
        public static let syn = TCPFlags(rawValue: 0x02)
        /// RST.
        public static let rst = TCPFlags(rawValue: 0x04)
        /// PSH.
        public static let psh = TCPFlags(rawValue: 0x08)
        /// ACK.
        public static let ack = TCPFlags(rawValue: 0x10)
        /// URG.
        public static let urg = TCPFlags(rawValue: 0x20)
        /// ECE.
        public static let ece = TCPFlags(rawValue: 0x40)
        /// CWR.
        public static let cwr = TCPFlags(rawValue: 0x80)

        /// Such as "syn|ack".
        public var description: String {
            let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"]
            let set = names.indices.filter { rawValue >> $0 & 1 == 1 }.map { names[$0] }
            return set.isEmpty ? "none" : set.joined(separator: "|")
        }
    }

    /// The TCP header.
    public struct TCP: Sendable, Hashable {
        /// Where from.
        public var sourcePort: UInt16
        /// Where to.
        public var destinationPort: UInt16
        /// The sequence number.
        public var sequence: UInt32 = 1_000
        /// The acknowledgement number.
        public var acknowledgement: UInt32 = 0
        /// The flags.
        public var flags: TCPFlags = .ack
        /// The window, unscaled.
        public var window: UInt16 = 65_535
        /// The urgent pointer.
        public var urgentPointer: UInt16 = 0
        /// Raw options, padded with zeros (end of options) to a multiple of 4.
        public var options: [UInt8] = []
        /// The checksum.
        public var checksum = Checksum.correct

        /// The maximum segment size option.
        public static func maximumSegmentSize(_ size: UInt16) -> [UInt8] { [2, 4] + size.networkBytes }
    }

    /// The UDP header.
    public struct UDP: Sendable, Hashable {
        /// Where from.
        public var sourcePort: UInt16
        /// Where to.
        public var destinationPort: UInt16
        /// Added to the right length.
        public var lengthDelta = 0
        /// The checksum; a correct one that comes to 0 is written as 0xffff.
        public var checksum = Checksum.correct
    }

    /// A type of SCTP chunk (RFC 9260, 3.2).
    public enum SCTPChunk: UInt8, Sendable, Hashable {
        /// DATA.
        case data = 0
        /// INIT.
        case initiate = 1
        /// INIT ACK.
        case initiateAck = 2
        /// HEARTBEAT.
        case heartbeat = 4
        /// ABORT.
        case abort = 6
        /// SHUTDOWN.
        case shutdown = 7
        /// SHUTDOWN ACK.
        case shutdownAck = 8
        /// COOKIE ECHO.
        case cookieEcho = 10
        /// COOKIE ACK.
        case cookieAck = 11
        /// SHUTDOWN COMPLETE.
        case shutdownComplete = 14
    }

    /// SCTP's common header and the first chunk's.
    public struct SCTP: Sendable, Hashable {
        /// Where from.
        public var sourcePort: UInt16
        /// Where to.
        public var destinationPort: UInt16
        /// Of the association, as its receiver has chosen it; 0 in an INIT.
        public var verificationTag: UInt32
        /// The chunk.
        public var chunk: SCTPChunk
        /// Overrides the CRC32c; 0 is what a sender with checksum offload leaves.
        public var checksum: UInt32?
    }

    /// The first 8 bytes of ICMPv4 or ICMPv6: the network header says which.
    public struct ICMP: Sendable, Hashable {
        /// The type.
        public var type: UInt8
        /// The code.
        public var code: UInt8 = 0
        /// The second word: identifier and sequence number of an echo, MTU or zero of an error.
        public var rest: UInt32 = 0
        /// The checksum.
        public var checksum = Checksum.correct

        /// The upper half of the second word: an echo's identifier.
        public var identifier: UInt16 {
            get { UInt16(truncatingIfNeeded: rest >> 16) }
            set { rest = UInt32(newValue) << 16 | rest & 0xffff }
        }

        /// The lower half of the second word: an echo's sequence number, ICMPv4's next-hop MTU.
        public var sequence: UInt16 {
            get { UInt16(truncatingIfNeeded: rest) }
            set { rest = rest & 0xffff_0000 | UInt32(newValue) }
        }
    }
}
