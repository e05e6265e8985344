internal import Addresses
internal import FastNAT

/// What an expression of nftables must be equal to, as conditions of packets: one of them must hold.
struct NftMatch {
    let left: NftValue
    let isNegated: Bool
    /// The values behind it, those of sets one by one.
    let values: [NftValue]
    let text: String

    var conditions: [PacketCondition] {
        guard let (name, value) = left.only else { return [other] }
        switch name {
        case "payload": return payload(value["protocol"]?.text ?? "", value["field"]?.text ?? "")
        case "meta": return meta(value["key"]?.text ?? "")
        case "fib" where value["result"]?.text == "type" && value["flags"]?.description == "daddr":
            guard !isNegated, values == [.text("local")] else { return [other] }
            return [condition { $0.isToHost = true }]
        case "ct" where value["key"]?.text == "state":
            return [!isNegated && values.contains(.text("new")) ? PacketCondition() : other]
        case "concat": return concatenation(value.list ?? [])
        default: return [other]
        }
    }

    /// What a mapping or masquerade cannot say.
    private var other: PacketCondition { condition { $0.others = [text] } }

    private func condition(_ change: (inout PacketCondition) -> Void) -> PacketCondition {
        var condition = PacketCondition()
        change(&condition)
        return condition
    }

    /// One condition for each value, or one that says what it cannot.
    private func each(_ make: (NftValue) -> PacketCondition?) -> [PacketCondition] {
        let made = values.map(make)
        return isNegated || values.isEmpty || made.contains { $0 == nil } ? [other] : made.compactMap(\.self)
    }

    private func payload(_ header: String, _ field: String) -> [PacketCondition] {
        switch (header, field) {
        case ("ip6", "saddr") where isNegated && values.map(Self.network) == [PacketCondition.untranslated]:
            return [condition { $0.family = .ipv6 }]
        case ("ip", "saddr"), ("ip6", "saddr"):
            return each { value in
                Self.network(value).map { network in
                    condition { ($0.source, $0.family) = (network, network.family) }
                }
            }
        case ("ip", "daddr"), ("ip6", "daddr"):
            let networks = values.map(Self.network)
            guard !networks.contains(where: { $0 == nil }), let family = networks.first??.family else { return [other] }
            if isNegated {
                return [condition { ($0.exceptDestinations, $0.family) = (networks.compactMap(\.self), family) }]
            }
            return networks.map { network in condition { ($0.destination, $0.family) = (network, family) } }
        case ("ip", "protocol"), ("ip6", "nexthdr"): return each(Self.transport)
        case ("tcp", "dport"), ("udp", "dport"), ("sctp", "dport"), ("th", "dport"):
            let ports = values.map(Self.ports)
            guard !isNegated, !ports.isEmpty, !ports.contains(where: { $0 == nil }) else { return [other] }
            return [
                condition { ($0.ports, $0.transport) = (ports.compactMap(\.self), TransportProtocol(name: header)) }
            ]
        default: return [other]
        }
    }

    private func meta(_ key: String) -> [PacketCondition] {
        switch key {
        case "l4proto": return each(Self.transport)
        case "nfproto", "protocol":
            return each { value in
                let families: [String: IPFamily] = ["ipv4": .ipv4, "ip": .ipv4, "ipv6": .ipv6, "ip6": .ipv6]
                return families[value.text ?? ""].map { family in condition { $0.family = family } }
            }
        case "iif", "iifname", "oif", "oifname":
            let names = values.compactMap(\.text).filter { !$0.hasSuffix("*") }
            guard names.count == values.count, !names.isEmpty else { return [other] }
            let isInput = key.hasPrefix("i")
            if isNegated {
                return [condition { if isInput { $0.exceptInputs = names } else { $0.exceptOutputs = names } }]
            }
            return names.map { name in condition { if isInput { $0.interface = name } else { $0.output = name } } }
        default: return [other]
        }
    }

    /// Several expressions at once: a value has a part for each.
    private func concatenation(_ parts: [NftValue]) -> [PacketCondition] {
        guard !isNegated else { return [other] }
        return values.flatMap { value -> [PacketCondition] in
            guard let values = value["concat"]?.list, values.count == parts.count else { return [other] }
            return zip(parts, values).reduce([PacketCondition()]) { found, pair in
                let match = NftMatch(left: pair.0, isNegated: false, values: [pair.1], text: text)
                return found.flatMap { one in match.conditions.compactMap(one.intersection) }
            }
        }
    }

    private static func network(_ value: NftValue) -> IPPrefix? {
        if let prefix = value["prefix"], let address = prefix["addr"]?.text, let length = prefix["len"]?.number {
            return try? IPPrefix(parsing: "\(address)/\(length)")
        }
        return value.text.flatMap { try? IPPrefix(parsing: $0) }
    }

    private static func transport(_ value: NftValue) -> PacketCondition? {
        guard let transport = value.text.flatMap({ TransportProtocol(name: $0) }) else {
            return nil
        }
        var condition = PacketCondition()
        condition.transport = transport
        return condition
    }

    static func ports(_ value: NftValue) -> PortRange? {
        let ends = value["range"]?.list ?? [value, value]
        guard ends.count == 2, let first = ends[0].number.flatMap({ UInt16(exactly: $0) }),
            let last = ends[1].number.flatMap({ UInt16(exactly: $0) })
        else { return nil }
        return try? PortRange(first: first, last: last)
    }
}
