internal import Addresses
internal import FastNAT

/// Which packets a rule is for, as far as a mapping or a masquerade can say it, and what they cannot say.
struct PacketCondition: Hashable {
    var family: IPFamily?
    var transport: TransportProtocol?
    /// Destination ports; nil: all.
    var ports: [PortRange]?
    var source: IPPrefix?
    var destination: IPPrefix?
    /// Not to these.
    var exceptDestinations: [IPPrefix] = []
    /// Only to addresses of the host itself.
    var isToHost = false
    /// The interface that packets come in on.
    var interface: String?
    /// Not on these.
    var exceptInputs: [String] = []
    /// The interface that packets leave by.
    var output: String?
    /// Not by these.
    var exceptOutputs: [String] = []
    /// What else is asked for.
    var others: [String] = []

    /// Addresses of one link, whose packets nobody translates: rules that leave these sources out, as Docker's, say nothing
    /// that a mapping does not.
    static let untranslated = try? IPPrefix(parsing: "fe80::/10")

    init() {}

    /// The packets that both are for; nil: none.
    func intersection(_ other: PacketCondition) -> PacketCondition? {
        var both = self
        guard Self.merge(&both.transport, other.transport, { $0 == $1 ? $0 : nil }),
            Self.merge(&both.family, other.family, { $0 == $1 ? $0 : nil }),
            Self.merge(&both.interface, other.interface, { $0 == $1 ? $0 : nil }),
            Self.merge(&both.output, other.output, { $0 == $1 ? $0 : nil }),
            Self.merge(&both.source, other.source, Self.narrower),
            Self.merge(&both.destination, other.destination, Self.narrower),
            Self.merge(&both.ports, other.ports, Self.common)
        else { return nil }
        both.isToHost = isToHost || other.isToHost
        both.exceptDestinations += other.exceptDestinations.filter { !exceptDestinations.contains($0) }
        both.exceptInputs += other.exceptInputs.filter { !exceptInputs.contains($0) }
        both.exceptOutputs += other.exceptOutputs.filter { !exceptOutputs.contains($0) }
        both.others += other.others.filter { !others.contains($0) }
        return both.isEmpty ? nil : both
    }

    /// Whether it excludes all that it is for.
    private var isEmpty: Bool {
        if let interface, exceptInputs.contains(interface) { return true }
        if let output, exceptOutputs.contains(output) { return true }
        guard let destination else { return false }
        return exceptDestinations.contains { $0.contains(destination) }
    }

    private static func merge<Value>(_ value: inout Value?, _ other: Value?, _ both: (Value, Value) -> Value?) -> Bool {
        guard let other else { return true }
        guard let present = value else {
            value = other
            return true
        }
        value = both(present, other)
        return value != nil
    }

    private static func narrower(_ left: IPPrefix, _ right: IPPrefix) -> IPPrefix? {
        let (wide, narrow) = left.length <= right.length ? (left, right) : (right, left)
        return wide.contains(narrow.address) ? narrow : nil
    }

    private static func common(_ left: [PortRange], _ right: [PortRange]) -> [PortRange]? {
        let common = left.flatMap { one in
            right.compactMap { two in
                try? PortRange(first: max(one.first, two.first), last: min(one.last, two.last))
            }
        }
        return common.isEmpty ? nil : common
    }
}
