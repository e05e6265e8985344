internal import Addresses
internal import FastNAT

/// Makes masquerades of MASQUERADE and SNAT rules, one after another as packets meet them.
struct MasqueradeBuilder {
    fileprivate struct Candidate {
        let rule: PacketRule
        let masquerade: MasqueradeRule
        /// The protocols that it is for; nil: all.
        var transports: Set<TransportProtocol>?
    }

    private let containerSides: Set<String>
    private let defaultUplink: (IPFamily) -> String?
    private var candidates: [Candidate] = []
    private var refusals: [RuleImport.Refusal] = []

    /// - Parameter uplink: the interface of the default route, for rules that do not say by which packets leave.
    init(containerSides: Set<String>, uplink: @escaping (IPFamily) -> String?) {
        self.containerSides = containerSides
        defaultUplink = uplink
    }

    /// What all rules amount to.
    ///
    /// - Parameter uplink: the only one that there will be; nil: any.
    func result(onlyBy uplink: String?) -> Built<MasqueradeRule> {
        var built = Built<MasqueradeRule>(refusals: refusals)
        for candidate in candidates {
            if let transports = candidate.transports, !transports.isSuperset(of: [.tcp, .udp]) {
                let names = transports.sorted().map(\.name).joined(separator: " and ")
                built.refusals.append(
                    .init(candidate.rule, "it is for \(names) alone; a masquerade is for TCP and UDP"))
            } else if let uplink, candidate.masquerade.uplink != uplink {
                let reason =
                    "it is for \(candidate.masquerade.uplink), which would be an uplink, and ports are published on "
                    + "\(uplink) alone"
                built.refusals.append(.init(candidate.rule, reason))
            } else {
                built.made.append(candidate.masquerade)
            }
        }
        return built
    }

    /// Adds the masquerade of a rule for the packets that come to it.
    ///
    /// - Parameter obstacles: rules before it that end the way of packets.
    mutating func add(_ rule: PacketRule, _ condition: PacketCondition, after obstacles: [Obstacle]) {
        if let reason = ofOwnPorts(rule, condition) {
            refusals.append(.init(rule, reason, group: reason))
            return
        }
        let before = candidates
        do throws(NotAMapping) {
            for family in try families(rule, condition) {
                try add(try masquerade(rule, condition, family, obstacles), rule, condition.transport)
            }
        } catch {
            candidates = before
            refusals.append(.init(rule, error.reason))
        }
    }

    /// Why a rule is not needed that managers write for connections of a container to its own published ports; nil for others.
    private func ofOwnPorts(_ rule: PacketRule, _ condition: PacketCondition) -> String? {
        let isHairpin = condition.source != nil && condition.source == condition.destination
        let isMarked =
            ["CNI-HOSTPORT-MASQ", "NETAVARK-HOSTPORT-MASQ"].contains(rule.chain)
            || rule.table.name.hasSuffix(" netavark") && condition.source == nil && !condition.others.isEmpty
        let isFromHost = condition.source?.address.isLoopback == true
        guard isHairpin || isMarked || isFromHost else { return nil }
        return "not needed: the host and containers reach published ports through fastnat as they are"
    }

    /// Both families only where a rule of both names no address.
    private func families(_ rule: PacketRule, _ condition: PacketCondition) throws(NotAMapping) -> [IPFamily] {
        if let family = condition.source?.family ?? condition.family { return [family] }
        if case .snat(let text, _) = rule.action { return [try Self.source(text).address.family] }
        guard rule.table.name != "nat" else { throw NotAMapping("it does not say whether it is of IPv4 or of IPv6") }
        return IPFamily.allCases
    }

    private func masquerade(
        _ rule: PacketRule, _ condition: PacketCondition, _ family: IPFamily, _ obstacles: [Obstacle]
    ) throws(NotAMapping) -> MasqueradeRule {
        try refuseUnsaid(condition)
        let everything = try Self.everything(family)
        let network = condition.source ?? everything
        guard let uplink = condition.output ?? defaultUplink(family) else {
            throw NotAMapping("it names no uplink, and no route leads everywhere: say which with --uplink")
        }
        if containerSides.contains(uplink) {
            throw NotAMapping("it is for connections to what is behind \(uplink); a masquerade is for those that leave")
        }
        if condition.exceptOutputs.contains(uplink) { throw NotAMapping("it is not for what leaves by \(uplink)") }
        let exempt =
            try condition.exceptDestinations
            + exempt(by: obstacles, from: condition, network, uplink)
        let (source, ports) = try Self.translation(rule)
        return try NotAMapping.translating { () throws(MasqueradeError) in
            try MasqueradeRule(network: network, uplink: uplink, source: source, ports: ports, exempt: exempt)
        }
    }

    private func refuseUnsaid(_ condition: PacketCondition) throws(NotAMapping) {
        let others = condition.others + (condition.isToHost ? ["--dst-type LOCAL"] : [])
        if let other = others.first { throw NotAMapping("a masquerade cannot say \(other)") }
        if let destination = condition.destination, destination.length > 0 {
            throw NotAMapping(
                "it is for \(destination) alone; a masquerade is for all destinations that it does not exempt")
        }
        guard condition.ports == nil else { throw NotAMapping("it is for some ports alone; a masquerade is for all") }
        let isKnown = condition.interface.map { containerSides.contains($0) && condition.source != nil } ?? true
        guard isKnown, condition.exceptInputs.isEmpty else {
            throw NotAMapping("it goes by the interface that packets come in on; a masquerade names their network")
        }
    }

    private static func everything(_ family: IPFamily) throws(NotAMapping) -> IPPrefix {
        try NotAMapping.translating { () throws(AddressError) in
            try IPPrefix(parsing: family == .ipv4 ? "0.0.0.0/0" : "::/0")
        }
    }

    /// The destinations that rules before let go as they are. Throws when such a rule is for something else than destinations, or
    /// than a network within that has a masquerade of its own, which holds.
    private func exempt(
        by obstacles: [Obstacle], from condition: PacketCondition, _ network: IPPrefix, _ uplink: String
    ) throws(NotAMapping) -> [IPPrefix] {
        var exempt: [IPPrefix] = []
        var leaving = condition
        leaving.output = uplink
        for obstacle in obstacles {
            guard obstacle.condition.intersection(leaving) != nil else { continue }
            var rest = obstacle.condition
            let (destination, inner) = (rest.destination, rest.source)
            let includesAll = rest.source.map { $0.contains(network) } ?? true
            (rest.destination, rest.source, rest.output, rest.family) = (nil, nil, nil, nil)
            if rest.transport == condition.transport { rest.transport = nil }
            rest.exceptOutputs = []
            if rest.isEverything, inner != network, candidates.contains(where: { $0.masquerade.network == inner }) {
                continue
            }
            guard let destination, destination.length > 0, includesAll, rest.isEverything else {
                throw NotAMapping("\(obstacle.name) lets packets go before they come here")
            }
            exempt.append(destination)
        }
        return exempt
    }

    private static func translation(_ rule: PacketRule) throws(NotAMapping) -> (IPAddress?, PortRange?) {
        switch rule.action {
        case .snat(let text, let others):
            if let other = others.first { throw NotAMapping("a masquerade cannot say \(other)") }
            let source = try source(text)
            return (source.address, source.ports)
        case .masquerade(let ports, let others):
            if let other = others.first { throw NotAMapping("a masquerade cannot say \(other)") }
            return (nil, try ports.map { text throws(NotAMapping) in try Self.ports(text) })
        default: return (nil, nil)
        }
    }

    private static func source(_ text: String) throws(NotAMapping) -> IptablesDestination {
        try IptablesDestination(text)
    }

    private static func ports(_ text: String) throws(NotAMapping) -> PortRange {
        try NotAMapping.translating { () throws(MappingError) in try PortRange(parsing: text) }
    }

    private mutating func add(_ masquerade: MasqueradeRule, _ rule: PacketRule, _ transport: TransportProtocol?)
        throws(NotAMapping)
    {
        let own = transport.map { Set([$0]) }
        for (index, earlier) in candidates.enumerated() where earlier.masquerade.network.contains(masquerade.network) {
            guard earlier.masquerade.uplink == masquerade.uplink || earlier.masquerade.network == masquerade.network
            else {
                continue
            }
            if earlier.covers(transport) {
                // After all its TCP and UDP, what is left of a network is none of fastnat's.
                if earlier.masquerade == masquerade || transport == nil && earlier.transports != nil { return }
                throw NotAMapping(
                    "\(earlier.rule.name) takes these packets before it, and a network has one masquerade")
            }
            guard earlier.masquerade == masquerade else {
                throw NotAMapping(
                    "\(earlier.rule.name) has another one for its network, and a network has one masquerade")
            }
            candidates[index].transports = own.flatMap { own in earlier.transports?.union(own) }
            return
        }
        candidates.append(Candidate(rule: rule, masquerade: masquerade, transports: own))
    }
}

extension MasqueradeBuilder.Candidate {
    /// Whether nothing of TCP and UDP, or of one of them, is left by it.
    fileprivate func covers(_ transport: TransportProtocol?) -> Bool {
        transports?.isSuperset(of: transport.map { [$0] } ?? [.tcp, .udp]) ?? true
    }
}

extension PacketCondition {
    /// Whether it is for every packet.
    fileprivate var isEverything: Bool {
        transport == nil && ports == nil && source == nil && destination == nil && !isToHost && interface == nil
            && output == nil && exceptDestinations.isEmpty && exceptInputs.isEmpty && exceptOutputs.isEmpty
            && others.isEmpty
    }
}
