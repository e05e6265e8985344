internal import Addresses
internal import FastNAT

/// Goes the way of packets through the chains that translate addresses, and takes down what it meets: from outside to the
/// containers for mappings, from the containers to outside for masquerades.
struct RuleWalk {
    private let rules: PacketRules
    private let containerSides: Set<String>
    private var mappings: MappingBuilder
    private var masquerades: MasqueradeBuilder
    private var visited: Set<Int> = []
    private var refusals: [RuleImport.Refusal] = []

    init(_ rules: PacketRules, uplink: @escaping (IPFamily) -> String?) {
        self.rules = rules
        containerSides = rules.containerSides()
        mappings = MappingBuilder(containerSides: containerSides)
        masquerades = MasqueradeBuilder(containerSides: containerSides, uplink: uplink)
    }

    /// What the rules amount to.
    mutating func run() -> RuleImport {
        for hook in [.prerouting, .postrouting] as [PacketRules.Hook] {
            for chain in rules.entrances[hook] ?? [] where !chain.isOfKubeProxy {
                var ended: [Obstacle] = []
                var condition = PacketCondition()
                condition.family = chain.table.family
                follow(chain, condition, 0, &ended)
            }
        }
        for rule in rules.rules where !visited.contains(rule.number) {
            if let reason = reason(forLeavingOut: rule) {
                refusals.append(.init(rule, reason, group: rule.isOfKubeProxy ? reason : rule.action.group))
            }
        }
        return result()
    }

    private func result() -> RuleImport {
        var result = RuleImport()
        let (found, interfaces) = mappings.result
        result.mappings = found.made
        result.uplink = interfaces.count == 1 ? interfaces.first : nil
        let sources = masquerades.result(onlyBy: result.uplink)
        result.masquerades = sources.made
        result.refusals = RuleImport.Refusal.joined(refusals + found.refusals + sources.refusals)
        return result
    }

    private mutating func follow(
        _ chain: PacketRules.Chain, _ condition: PacketCondition, _ depth: Int, _ ended: inout [Obstacle]
    ) {
        guard depth < 16 else { return }
        var returned: [Obstacle] = []
        for rule in rules.chain(chain) {
            guard let both = condition.intersection(rule.condition) else { continue }
            switch rule.action {
            case .dnat(let destination, let others):
                visited.insert(rule.number)
                mappings.add(rule, both, destination, others, after: ended + returned)
            case .snat, .masquerade:
                visited.insert(rule.number)
                masquerades.add(rule, both, after: ended + returned)
            case .return: note(rule, both, &returned)
            case .accept, .drop, .redirect, .untranslatable: note(rule, both, &ended)
            case .jump(let name), .goto(let name):
                let target = PacketRules.Chain(table: chain.table, name: name)
                if !target.isOfKubeProxy {
                    var before = ended + returned
                    let count = before.count
                    follow(target, both, depth + 1, &before)
                    ended += before[count...]
                }
                if case .goto = rule.action { note(rule, both, &returned) }
            case .none: break
            }
        }
    }

    private func note(_ rule: PacketRule, _ condition: PacketCondition, _ obstacles: inout [Obstacle]) {
        if let interface = condition.interface, containerSides.contains(interface) { return }
        obstacles.append(Obstacle(name: rule.name, condition: condition))
    }

    /// Why no rule of kube-proxy's is imported. It has a chain for each service and each of its endpoints: one reason is said once.
    private static let ofKubeProxy =
        "kube-proxy's, for services of the cluster and their NodePorts: it writes them anew as pods come and go, and a "
        + "mapping stays as it is; leave them to it"

    /// Why a rule that no packet has come to is not imported; nil for one that needs no words.
    private func reason(forLeavingOut rule: PacketRule) -> String? {
        if rule.isOfKubeProxy { return rule.action.translates ? Self.ofKubeProxy : nil }
        switch rule.action {
        case .redirect: return "it leads to the host itself, not to a container"
        case .untranslatable(let reason): return reason
        case .dnat: return "packets from outside do not come here"
        case .snat, .masquerade: return "packets of containers do not come here"
        case .drop
        where rules.filters.contains(.init(table: rule.table, name: rule.chain)) && !rule.condition.isInvalid:
            return
                "the packet filter does not see what fastnat translates: say with allow who may connect, and with exempt "
                + "where containers keep their address"
        default: return nil
        }
    }
}

/// A rule that ends the way of some packets before a translation.
struct Obstacle {
    /// What the rule is called.
    let name: String
    let condition: PacketCondition
}

extension RuleAction {
    /// What such rules have in common that need not be said for each.
    fileprivate var group: String? {
        if case .untranslatable(let reason) = self { reason } else { nil }
    }
}

extension PacketCondition {
    /// Whether it is for packets of no connection alone, which says nothing of who may connect.
    fileprivate var isInvalid: Bool {
        others.contains { ["--ctstate INVALID", "--state INVALID", "ct state invalid"].contains($0) }
    }
}

extension PacketRules.Chain {
    /// kube-proxy has tables of its own in nftables, and chains of its own in those of iptables.
    fileprivate var isOfKubeProxy: Bool { table.name.hasSuffix(" kube-proxy") || name.hasPrefix("KUBE-") }
}

extension PacketRule {
    fileprivate var isOfKubeProxy: Bool { PacketRules.Chain(table: table, name: chain).isOfKubeProxy }
}
