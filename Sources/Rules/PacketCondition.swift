internal import Addresses
internal import FastNAT

/// Which packets a rule is for, as far as a mapping can say it, and what a mapping cannot say.
struct PacketCondition {
    var transport: TransportProtocol?
    /// Destination ports; nil: all.
    var ports: [PortRange]?
    var source: IPPrefix?
    var destination: IPPrefix?
    /// The interface that packets come in on.
    var interface: String?
    /// What else is asked for.
    var others: [String] = []

    init() {}

    /// The packets that both are for; nil: none.
    func intersection(_ other: PacketCondition) -> PacketCondition? {
        var both = self
        guard Self.merge(&both.transport, other.transport, { $0 == $1 ? $0 : nil }),
            Self.merge(&both.interface, other.interface, { $0 == $1 ? $0 : nil }),
            Self.merge(&both.source, other.source, Self.narrower),
            Self.merge(&both.destination, other.destination, Self.narrower),
            Self.merge(&both.ports, other.ports, Self.common)
        else { return nil }
        both.others += other.others.filter { !others.contains($0) }
        return both
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

extension PacketCondition {
    /// The condition of the words before `-j` in iptables-save.
    ///
    /// - Parameter containerSides: interfaces that containers are behind. fastnat begins no flow there, so what comes from there
    ///   need not be excluded.
    init(matches words: [String], containerSides: Set<String>) {
        var rest = words[...]
        while let name = rest.popFirst() {
            let isNegated = name == "!"
            let option = isNegated ? rest.popFirst() ?? "" : name
            take(option, isNegated, &rest, containerSides)
        }
    }

    private mutating func take(
        _ option: String, _ isNegated: Bool, _ rest: inout ArraySlice<String>, _ containerSides: Set<String>
    ) {
        if option == "-m" {
            _ = rest.popFirst()
            return
        }
        let hasValue = option == "--comment" || rest.first?.hasPrefix("-") == false && rest.first != "!"
        let value = hasValue ? rest.popFirst() ?? "" : ""
        let text = (isNegated ? "! " : "") + option + (value.isEmpty ? "" : " \(value)")
        if isNegated {
            if option != "-i" || !containerSides.contains(value) { others.append(text) }
        } else if !read(option, value) {
            others.append(text)
        }
    }

    private mutating func read(_ option: String, _ value: String) -> Bool {
        switch option {
        case "-p":
            transport = TransportProtocol(name: value)
            return transport != nil
        case "-s": return Self.set(&source, to: try? IPPrefix(parsing: value))
        case "-d": return Self.set(&destination, to: try? IPPrefix(parsing: value))
        case "-i":
            interface = value
            return !value.hasSuffix("+")
        case "--dport", "--dports": return Self.set(&ports, to: Self.ports(value))
        case "--dst-type": return value == "LOCAL"
        case "--ctstate", "--state": return value.split(separator: ",").contains("NEW")
        case "--comment": return true
        default: return false
        }
    }

    private static func set<Value>(_ place: inout Value?, to value: Value?) -> Bool {
        if let value { place = value }
        return value != nil
    }

    /// `80`, `80:89`, `80,443,8000:8099`
    private static func ports(_ text: String) -> [PortRange]? {
        let ranges = text.split(separator: ",").map { part in
            try? PortRange(parsing: String(part.map { $0 == ":" ? "-" : $0 }))
        }
        return ranges.contains { $0 == nil } ? nil : ranges.compactMap(\.self)
    }
}
