internal import Addresses
internal import FastNAT

/// What a builder has made of rules, and what it could not.
struct Built<Made> {
    var made: [Made] = []
    var refusals: [RuleImport.Refusal] = []
}

/// Makes mappings of DNAT rules, one after another as packets meet them.
struct MappingBuilder {
    private struct Candidate {
        let rule: PacketRule
        let interface: String?
        var mapping: PortMapping
    }

    /// Interfaces that containers are behind. fastnat begins no flow of a mapping there, so what comes from there need not be
    /// excluded.
    private let containerSides: Set<String>
    private var candidates: [Candidate] = []
    private var refusals: [RuleImport.Refusal] = []

    init(containerSides: Set<String>) { self.containerSides = containerSides }

    /// What all rules amount to, and the interfaces that some are for alone. Such a rule can be kept when there is only one such
    /// interface: the uplink.
    var result: (Built<PortMapping>, interfaces: Set<String>) {
        let interfaces = Set(candidates.compactMap(\.interface))
        var built = Built<PortMapping>(refusals: refusals)
        for candidate in candidates {
            if let interface = candidate.interface, interfaces.count > 1 {
                let reason = "it is for \(interface) alone, and other rules for others; a mapping is for every uplink"
                built.refusals.append(.init(candidate.rule, reason))
            } else if let last = built.made.last,
                let both = last.joined(with: candidate.mapping) ?? candidate.mapping.joined(with: last)
            {
                built.made[built.made.count - 1] = both
            } else {
                built.made.append(candidate.mapping)
            }
        }
        return (built, interfaces)
    }

    /// Adds the mappings of a DNAT rule for the packets that come to it: all of them, or none.
    ///
    /// - Parameter obstacles: rules before it that end the way of packets.
    mutating func add(
        _ rule: PacketRule, _ condition: PacketCondition, _ destination: String, _ others: [String],
        after obstacles: [Obstacle]
    ) {
        var before: [Candidate]?
        do throws(NotAMapping) {
            let closed = candidates.indices.filter { index in
                condition.destination == nil && obstacles.contains { $0.closes(candidates[index].mapping) }
            }
            let obstacle = obstacles.first { obstacle in
                obstacle.condition.intersection(condition) != nil
                    && !closed.contains { obstacle.closes(candidates[$0].mapping) }
            }
            if let obstacle { throw NotAMapping("\(obstacle.name) lets packets go before they come here") }
            let found = try mappings(condition, destination, others)
            // One alone is added or is not; a copy for each of a range's thousands of rules would take minutes.
            if found.count > 1 { before = candidates }
            for mapping in found { try add(mapping, rule, condition.interface, beside: Set(closed)) }
        } catch {
            if let before { candidates = before }
            refusals.append(.init(rule, error.reason))
        }
    }

    /// - Parameter closed: mappings of one address behind which nobody comes to one of any.
    private mutating func add(
        _ mapping: PortMapping, _ rule: PacketRule, _ interface: String?, beside closed: Set<Int>
    ) throws(NotAMapping) {
        let overlapping = candidates.indices.filter {
            !closed.contains($0) && candidates[$0].mapping.meets(mapping)
        }
        for index in overlapping {
            let earlier = candidates[index]
            guard earlier.mapping.listen == mapping.listen, earlier.mapping.target == mapping.target,
                earlier.interface == interface
            else {
                throw NotAMapping(
                    earlier.mapping.allow.isEmpty
                        ? "\(earlier.rule.name) takes these packets before it"
                        : "\(earlier.rule.name) has the same port for other sources, and a port has one target")
            }
        }
        guard let index = overlapping.first else {
            candidates.append(Candidate(rule: rule, interface: interface, mapping: mapping))
            return
        }
        let allow = candidates[index].mapping.allow
        let both = allow.isEmpty || mapping.allow.isEmpty ? [] : allow + mapping.allow
        candidates[index].mapping = try Self.mapping(mapping.listen, mapping.target, both)
    }

    private func mappings(_ condition: PacketCondition, _ destination: String, _ others: [String])
        throws(NotAMapping) -> [PortMapping]
    {
        if let other = unsaid(condition).first { throw NotAMapping("a mapping cannot say \(other)") }
        guard let transport = condition.transport else {
            throw NotAMapping("it is for every protocol; a mapping has one")
        }
        guard let ports = condition.ports else { throw NotAMapping("it is for every port; a mapping names its ports") }
        if let other = others.first { throw NotAMapping("a mapping cannot say \(other)") }
        let destination = try IptablesDestination(destination)
        return try ports.map { range throws(NotAMapping) in
            let listen = try Self.listen(range, transport, condition, destination.address.family)
            let allow = condition.source.map { [$0] } ?? []
            return try Self.mapping(listen, try destination.target(for: range), allow.filter { $0.length > 0 })
        }
    }

    /// What a rule asks for and a mapping cannot.
    private func unsaid(_ condition: PacketCondition) -> [String] {
        condition.others + condition.exceptDestinations.map { "! -d \($0)" }
            + condition.exceptInputs.filter { !containerSides.contains($0) }.map { "! -i \($0)" }
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

extension Obstacle {
    /// Whether it ends the way of all packets to the ports of a mapping of one address that is for some sources alone: as a
    /// mapping does.
    fileprivate func closes(_ mapping: PortMapping) -> Bool {
        guard let address = mapping.listen.address, !mapping.allow.isEmpty else { return false }
        var mapped = PacketCondition()
        (mapped.transport, mapped.ports, mapped.destination) = (
            mapping.listen.transport, [mapping.listen.ports], IPPrefix(address)
        )
        var own = condition
        (own.family, own.isToHost) = (nil, false)
        return own == mapped
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

    /// One mapping of the ports of both, where those of the other come next; nil where they do not. Managers of containers write
    /// a rule for each port of a range that is published, the first or (Docker 20) the last one first.
    fileprivate func joined(with next: PortMapping) -> PortMapping? {
        guard listen.transport == next.listen.transport, family == next.family,
            listen.address == next.listen.address, target.address == next.target.address, allow == next.allow,
            let ports = listen.ports.joined(with: next.listen.ports),
            let targets = target.ports.joined(with: next.target.ports), ports.count == targets.count,
            let listen = try? Listen(ports: ports, like: listen),
            let target = try? Target(address: target.address, ports: targets)
        else { return nil }
        return try? PortMapping(listen: listen, target: target, allow: allow)
    }
}

extension Listen {
    /// Other ports of the same place.
    fileprivate init(ports: PortRange, like other: Listen) throws(MappingError) {
        if let address = other.address {
            try self.init(address: address, ports: ports, transport: other.transport)
        } else {
            self.init(anyAddressOf: other.family, ports: ports, transport: other.transport)
        }
    }
}

extension PortRange {
    /// Both, where the other begins behind this one's end.
    fileprivate func joined(with next: PortRange) -> PortRange? {
        Int(last) + 1 == Int(next.first) ? try? PortRange(first: first, last: next.last) : nil
    }
}
