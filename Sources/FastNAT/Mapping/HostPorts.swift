internal import Addresses

/// `[HOST:]PORTS` taken apart: the common core of a listen part and a target.
struct HostPorts {
    let address: IPAddress?
    let ports: PortRange

    /// Splits `range` of `text` and parses both halves; `part` says in errors what the whole should be.
    init(parsing text: Span<UInt8>, as part: MappingError.Part) throws(MappingError) {
        func refuse(_ problem: String) -> MappingError {
            .malformed(part, text: String(utf8: text), problem: problem)
        }
        guard !text.isEmpty else { throw refuse("there is nothing") }
        guard !text.hasBlank else { throw refuse("there is a space or a control character in it") }
        guard let colon = text.firstIndex(of: ASCII.colon) else {
            guard text.firstIndex(of: ASCII.dot) == nil else { throw refuse("the port is missing") }
            self.address = nil
            self.ports = try PortRange(parsing: text)
            return
        }
        if text[0] != UInt8(ascii: "[") {
            guard text.firstIndex(of: ASCII.colon, from: colon + 1) == nil else {
                throw refuse("an IPv6 address needs brackets, like [2001:db8::1]:80")
            }
            guard colon > 0 else { throw refuse("there is no address before the colon") }
            self.address = try Self.address(text.extracting(0..<colon))
            self.ports = try PortRange(parsing: text.extracting(colon + 1..<text.count))
            return
        }
        guard let close = text.firstIndex(of: UInt8(ascii: "]")) else { throw refuse("the closing bracket is missing") }
        guard close + 1 < text.count, text[close + 1] == ASCII.colon else {
            throw refuse("there is no colon and port after the bracket")
        }
        let address = try Self.address(text.extracting(1..<close))
        guard address.family == .ipv6 else { throw refuse("brackets are for IPv6 addresses only") }
        self.address = address
        self.ports = try PortRange(parsing: text.extracting(close + 2..<text.count))
    }

    private static func address(_ text: Span<UInt8>) throws(MappingError) -> IPAddress {
        do throws(AddressError) {
            return try IPAddress(parsing: text)
        } catch {
            throw .invalidAddress(error)
        }
    }

    /// `HOST:PORTS`, an IPv6 address in brackets.
    static func description(_ address: IPAddress, _ ports: PortRange) -> String {
        address.family == .ipv6 ? "[\(address)]:\(ports)" : "\(address):\(ports)"
    }
}

extension IPAddress {
    /// What makes the address no host's own, in a word for a sentence; nil for one that a host can have.
    var unusableKind: String? {
        if isUnspecified { return "unspecified" }
        if isMulticast { return "multicast" }
        if isLimitedBroadcast { return "broadcast" }
        return nil
    }
}
