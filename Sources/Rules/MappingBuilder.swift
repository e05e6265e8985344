internal import Addresses
internal import FastNAT

/// Makes mappings of DNAT rules, one after another as packets meet them.
struct MappingBuilder {
    private struct Candidate {
        let line: Int
        let rule: String
        let interface: String?
        var mapping: PortMapping
    }

    private var candidates: [Candidate] = []
    private var refusals: [RuleImport.Refusal] = []

    mutating func refuse(_ rule: IptablesRule, _ reason: String) {
        refusals.append(.init(line: rule.line, rule: rule.text, reason: reason))
    }

    /// What all rules amount to. A rule for one interface can be kept when there is only one such interface: the uplink.
    var result: RuleImport {
        var result = RuleImport()
        let interfaces = Set(candidates.compactMap(\.interface))
        result.uplink = interfaces.count == 1 ? interfaces.first : nil
        var seen: Set<Int> = []
        result.refusals = refusals.filter { seen.insert($0.line).inserted }
        for candidate in candidates {
            if let interface = candidate.interface, interfaces.count > 1 {
                let reason = "it is for \(interface) alone, and other rules for others; a mapping is for every uplink"
                result.refusals.append(.init(line: candidate.line, rule: candidate.rule, reason: reason))
            } else {
                result.mappings.append(candidate.mapping)
            }
        }
        result.refusals.sort { $0.line < $1.line }
        return result
    }

    /// Adds the mappings of a DNAT rule for the packets that come to it: all of them, or none.
    mutating func add(_ rule: IptablesRule, _ condition: PacketCondition) {
        let before = candidates
        do throws(NotAMapping) {
            for mapping in try Self.mappings(rule, condition) {
                try add(mapping, rule, condition.interface)
            }
        } catch {
            candidates = before
            refuse(rule, error.reason)
        }
    }

    private mutating func add(_ mapping: PortMapping, _ rule: IptablesRule, _ interface: String?) throws(NotAMapping) {
        let overlapping = candidates.indices.filter { candidates[$0].mapping.meets(mapping) }
        for index in overlapping {
            let earlier = candidates[index]
            guard earlier.mapping.listen == mapping.listen, earlier.mapping.target == mapping.target,
                earlier.interface == interface
            else {
                throw NotAMapping(
                    earlier.mapping.allow.isEmpty
                        ? "line \(earlier.line) takes these packets before it"
                        : "line \(earlier.line) has the same port for other sources, and a port has one target")
            }
        }
        guard let index = overlapping.first else {
            candidates.append(Candidate(line: rule.line, rule: rule.text, interface: interface, mapping: mapping))
            return
        }
        let allow = candidates[index].mapping.allow
        let both = allow.isEmpty || mapping.allow.isEmpty ? [] : allow + mapping.allow
        candidates[index].mapping = try Self.mapping(mapping.listen, mapping.target, both)
    }

    private static func mappings(_ rule: IptablesRule, _ condition: PacketCondition) throws(NotAMapping)
        -> [PortMapping]
    {
        if let other = condition.others.first { throw NotAMapping("a mapping cannot say \(other)") }
        guard let transport = condition.transport else {
            throw NotAMapping("it is for every protocol; a mapping has one")
        }
        guard let ports = condition.ports else { throw NotAMapping("it is for every port; a mapping names its ports") }
        if let option = rule.options.first(where: { $0.hasPrefix("--random") }) {
            throw NotAMapping("a mapping cannot say \(option)")
        }
        let destination = try IptablesDestination(rule)
        return try ports.map { range throws(NotAMapping) in
            let listen = try listen(range, transport, condition, destination.address.family)
            let allow = condition.source.map { [$0] } ?? []
            return try mapping(listen, try destination.target(for: range), allow.filter { $0.length > 0 })
        }
    }

    private static func listen(
        _ ports: PortRange, _ transport: TransportProtocol, _ condition: PacketCondition, _ family: IPFamily
    ) throws(NotAMapping) -> Listen {
        guard let destination = condition.destination, destination.length > 0 else {
            return Listen(anyAddressOf: family, ports: ports, transport: transport)
        }
        guard destination.length == destination.family.bitWidth else {
            throw NotAMapping("it is for the network \(destination); a mapping has one address of the host, or all")
        }
        return try NotAMapping.translating { () throws(MappingError) in
            try Listen(address: destination.address, ports: ports, transport: transport)
        }
    }

    private static func mapping(_ listen: Listen, _ target: Target, _ allow: [IPPrefix]) throws(NotAMapping)
        -> PortMapping
    {
        try NotAMapping.translating { () throws(MappingError) in
            try PortMapping(listen: listen, target: target, allow: allow)
        }
    }

}

extension PortMapping {
    /// Whether packets for one mapping come to the other's rule, too: any address includes each.
    fileprivate func meets(_ other: PortMapping) -> Bool {
        listen.transport == other.listen.transport && family == other.family
            && listen.ports.overlaps(other.listen.ports)
            && (listen.address == nil || other.listen.address == nil && !allow.isEmpty
                || listen.address == other.listen.address)
    }
}
