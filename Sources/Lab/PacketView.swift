/// A frame decoded into named fields, in the order of the wire: `view["ip.ttl"]`, `view["inner.udp.sport"]`.
///
/// Names: `eth.dst src type`, `vlan.tci`, `arp.…`, `ip.tos length id flags offset ttl protocol checksum src dst options`
/// (IPv4), `ip6.tclass flow length next hops src dst`, `ext0.number body` …, `tcp.sport dport seq ack flags window
/// checksum urgent options`, `udp.sport dport length checksum`, `sctp.sport dport tag checksum chunk`, `icmp.type code rest checksum`, `payload`. What an ICMP error
/// quotes has the prefix `inner.`; bytes after the IP packet are `trailer`.
public struct PacketView: Sendable, CustomStringConvertible {
    /// A field's name and its value as text.
    public struct Field: Sendable, Hashable {
        /// Such as `ip.ttl`.
        public let name: String
        /// Decimal, hexadecimal or an address, as is usual for the field.
        public let value: String
    }

    /// The fields in the order of the wire.
    public private(set) var fields: [Field] = []
    /// What cannot be decoded or is not as it should be, such as a checksum; empty for a sound packet.
    public private(set) var problems: [String] = []
    /// The frame.
    public let bytes: [UInt8]
    /// What follows the outermost headers.
    public internal(set) var payload: [UInt8] = []

    /// Decodes a frame.
    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
        var cursor = PacketCursor(bytes[...])
        decodeEthernet(&cursor)
    }

    /// Decodes a packet that begins with its IP header.
    public init(ip bytes: [UInt8]) {
        self.bytes = bytes
        decodeNetwork(PacketCursor(bytes[...]), prefix: "")
    }

    /// A field's text.
    public subscript(name: String) -> String? { fields.first { $0.name == name }?.value }

    /// A decimal field's number.
    public func number(_ name: String) -> Int? { self[name].flatMap { Int($0) } }

    /// From where, if it is an IP packet; an echo's port is its identifier, and without a transport header it is 0.
    public var source: Packet.Endpoint? { endpoint("src", "sport") }

    /// To where, likewise.
    public var destination: Packet.Endpoint? { endpoint("dst", "dport") }

    /// All fields on one line.
    public var description: String { fields.map { "\($0.name)=\($0.value)" }.joined(separator: " ") }

    mutating func add(_ name: String, _ value: some CustomStringConvertible) {
        fields.append(Field(name: name, value: value.description))
    }

    mutating func note(_ problem: String) { problems.append(problem) }

    private func endpoint(_ address: String, _ port: String) -> Packet.Endpoint? {
        guard let text = self["ip.\(address)"] ?? self["ip6.\(address)"] else { return nil }
        let number =
            (self["tcp.\(port)"] ?? self["udp.\(port)"] ?? self["sctp.\(port)"]).flatMap { UInt16($0) }
            ?? echoIdentifier ?? 0
        return try? Packet.Endpoint(Packet.Address(text), port: number)
    }

    private var echoIdentifier: UInt16? {
        guard let type = number("icmp.type"), [0, 8, 128, 129].contains(type) else { return nil }
        return self["icmp.rest"].flatMap { UInt32($0.dropFirst(2), radix: 16) }.map { UInt16($0 >> 16) }
    }

    private mutating func decodeEthernet(_ cursor: inout PacketCursor) {
        guard let header = cursor.take(14) else { return note("eth: truncated") }
        var type = header.u16(12)
        add("eth.dst", Packet.MAC(bytes: header[0..<6]))
        add("eth.src", Packet.MAC(bytes: header[6..<12]))
        if type == 0x8100 {
            guard let tag = cursor.take(4) else { return note("vlan: truncated") }
            add("vlan.tci", "0x" + hex(tag.u16(0), digits: 4))
            type = tag.u16(2)
        }
        add("eth.type", "0x" + hex(type, digits: 4))
        switch type {
        case 0x0800, 0x86dd: decodeNetwork(cursor, prefix: "")
        case 0x0806: decodeARP(&cursor)
        default: addPayload(cursor.rest, prefix: "")
        }
    }

    private mutating func decodeARP(_ cursor: inout PacketCursor) {
        guard let message = cursor.take(28), message.u16(0) == 1, message.u16(2) == 0x0800 else {
            return note("arp: truncated, or not for IPv4 over Ethernet")
        }
        add("arp.operation", message.u16(6))
        add("arp.sender.mac", Packet.MAC(bytes: message[8..<14]))
        add("arp.sender", Packet.Address(bytes: message[14..<18]))
        add("arp.target.mac", Packet.MAC(bytes: message[18..<24]))
        add("arp.target", Packet.Address(bytes: message[24..<28]))
    }

    /// The payload, or what an error quotes.
    mutating func addPayload(_ rest: ArraySlice<UInt8>, prefix: String) {
        if prefix.isEmpty { payload = Array(rest) }
        if !rest.isEmpty { add(prefix + "payload", hexText(rest)) }
    }
}

/// Hands out slices that begin at index 0.
struct PacketCursor {
    private(set) var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    mutating func take(_ count: Int) -> [UInt8]? {
        guard count >= 0, rest.count >= count else { return nil }
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }

    /// Cuts the rest down to `count` bytes and returns what was after them.
    mutating func limit(_ count: Int) -> ArraySlice<UInt8> {
        defer { rest = rest.prefix(max(0, count)) }
        return rest.dropFirst(max(0, count))
    }
}

extension [UInt8] {
    func u16(_ index: Int) -> UInt16 { UInt16(self[index]) << 8 | UInt16(self[index + 1]) }
    package func u32(_ index: Int) -> UInt32 { UInt32(u16(index)) << 16 | UInt32(u16(index + 2)) }
}

/// Bytes as hexadecimal digits without spaces.
package func hexText(_ bytes: some Sequence<UInt8>) -> String { bytes.map { hex($0, digits: 2) }.joined() }
