public import Addresses

/// A rule of the NAT: connections to `listen` go to `target`, from everywhere or from the allowed networks only.
///
/// A valid mapping by construction; two equal mappings mean the same to the datapath.
public struct PortMapping: Sendable, Hashable {
    /// Where connections come in; its family is never nil here.
    public let listen: Listen
    /// Where they go: as many ports as `listen` has, or one for all.
    public let target: Target
    /// The networks that may connect, sorted, without duplicates; empty for everyone.
    public let allow: [IPPrefix]
    /// How many flows there may be.
    public let limits: FlowLimits

    /// A mapping of checked parts. A listen part without an address takes the target's family; with one, it may be of the other
    /// family than the target.
    ///
    /// - Throws: when the parts do not fit together.
    public init(
        listen: Listen, target: Target, allow: [IPPrefix] = [], limits: FlowLimits = FlowLimits()
    ) throws(MappingError) {
        let family = listen.family ?? target.address.family
        guard target.ports.count == 1 || target.ports.count == listen.ports.count else {
            throw .rangeLengthMismatch(listen: listen.ports, target: target.ports)
        }
        if listen.transport == .sctp {
            guard target.ports == listen.ports else { throw .sctpPorts(listen: listen.ports, target: target.ports) }
            guard target.address.family == family else { throw .sctpFamilies }
        }
        for prefix in allow where prefix.family != family { throw .allowFamilyMismatch(prefix, mapping: family) }
        if listen.family == nil {
            self.listen = Listen(anyAddressOf: family, ports: listen.ports, transport: listen.transport)
        } else {
            self.listen = listen
        }
        self.target = target
        self.allow = allow.count < 2 ? allow : Set(allow).sorted()
        self.limits = limits
    }

    /// The address family of connections that come in.
    public var family: IPFamily { listen.family ?? target.address.family }

    /// Whether the target is of the other family: it sees clients under an address of this host.
    public var translates: Bool { family != target.address.family }

    /// The target's port for connections to `port`, or nil when the mapping does not listen on it.
    public func targetPort(for port: UInt16) -> UInt16? {
        guard listen.ports.contains(port) else { return nil }
        return target.ports.count == 1 ? target.ports.first : target.ports.first + (port - listen.ports.first)
    }

    /// Whether both claim a port on the same address. A specific address and any address do not collide: the specific
    /// one wins.
    public func overlaps(_ other: PortMapping) -> Bool {
        listen.transport == other.listen.transport && family == other.family
            && listen.address == other.listen.address && listen.ports.overlaps(other.listen.ports)
    }
}

extension PortMapping: CustomStringConvertible {
    /// The mapping as `init(parsing:)` reads it: `0.0.0.0:80/tcp 172.17.0.2:8080 allow=10.0.0.0/8 limit-flows=100`.
    public var description: String {
        let clause = allow.isEmpty ? "" : " allow=" + allow.map(\.description).joined(separator: ",")
        return "\(listen) \(target)\(clause)\(limits.isEmpty ? "" : " \(limits)")"
    }
}

extension PortMapping {
    /// Parses `LISTEN TARGET [allow=CIDR[,CIDR…]] [limit-flows=N …]`, separated by spaces or tabs: a line of a mapping file.
    ///
    /// - Throws: when a part is wrong or the parts do not fit together.
    public init(parsing text: String) throws(MappingError) {
        try self.init(parsing: text.utf8.span)
    }

    init(parsing text: Span<UInt8>) throws(MappingError) {
        func refuse(_ problem: String) -> MappingError {
            .malformed(.mapping, text: String(utf8: text), problem: problem)
        }
        guard let listen = Self.word(in: text, from: 0) else { throw refuse("the listen part is missing") }
        guard let target = Self.word(in: text, from: listen.upperBound) else { throw refuse("the target is missing") }
        var allow: [IPPrefix] = []
        var limits = FlowLimits()
        var end = target.upperBound
        while let clause = Self.word(in: text, from: end) {
            end = clause.upperBound
            if let list = Self.value(of: "allow", in: text, clause) {
                guard allow.isEmpty else { throw refuse("allow= is there twice") }
                allow = try Self.prefixes(text.extracting(list))
                continue
            }
            var isKnown = false
            for limit in FlowLimit.allCases {
                guard let value = Self.value(of: limit.rawValue, in: text, clause) else { continue }
                guard limits.text(limit) == nil else { throw refuse("\(limit.rawValue)= is there twice") }
                try limits.set(limit, to: String(utf8: text.extracting(value)))
                isKnown = true
            }
            guard isKnown else {
                throw refuse("a word after the target does not begin with allow= or a limit such as limit-flows=")
            }
        }
        try self.init(
            listen: Listen(parsing: text.extracting(listen)), target: Target(parsing: text.extracting(target)),
            allow: allow, limits: limits)
    }

    /// The next run of characters other than spaces and tabs at or after `start`, or nil.
    private static func word(in text: Span<UInt8>, from start: Int) -> Range<Int>? {
        func isSpace(_ index: Int) -> Bool { text[index] == UInt8(ascii: " ") || text[index] == UInt8(ascii: "\t") }
        var first = start
        while first < text.count, isSpace(first) { first += 1 }
        var end = first
        while end < text.count, !isSpace(end) { end += 1 }
        return first == end ? nil : first..<end
    }

    /// The part of `word` after `name=`, or nil when it does not begin so.
    private static func value(of name: String, in text: Span<UInt8>, _ word: Range<Int>) -> Range<Int>? {
        var index = word.lowerBound
        for byte in name.utf8 {
            guard index < word.upperBound, text[index] == byte else { return nil }
            index += 1
        }
        guard index < word.upperBound, text[index] == UInt8(ascii: "=") else { return nil }
        return index + 1..<word.upperBound
    }

    /// The networks of a list with commas between them.
    private static func prefixes(_ list: Span<UInt8>) throws(MappingError) -> [IPPrefix] {
        var prefixes: [IPPrefix] = []
        var start = 0
        repeat {
            let end = list.firstIndex(of: UInt8(ascii: ","), from: start) ?? list.count
            do throws(AddressError) {
                prefixes.append(try IPPrefix(parsing: list.extracting(start..<end)))
            } catch {
                throw .invalidAddress(error)
            }
            start = end + 1
        } while start <= list.count
        return prefixes
    }
}
