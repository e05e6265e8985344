internal import Addresses
internal import FastNAT

extension RuleImport {
    /// Makes mappings of the DNAT rules that packets from outside meet, in text of iptables-save, IPv4 or IPv6 or one after the
    /// other.
    public init(iptables text: String) {
        var walk = IptablesWalk(IptablesRules(text))
        walk.run()
        self = walk.result
    }
}

/// Goes the way of a packet from outside through the table nat, and takes down what it meets.
private struct IptablesWalk {
    let rules: IptablesRules
    var builder = MappingBuilder()
    private var visited: Set<Int> = []

    init(_ rules: IptablesRules) { self.rules = rules }

    var result: RuleImport { builder.result }

    mutating func run() {
        for table in rules.tables where table.name == "nat" {
            var ended: [Obstacle] = []
            follow("PREROUTING", of: table, PacketCondition(), 0, &ended)
        }
        for rule in rules.rules where !visited.contains(rule.line) {
            if let reason = Self.reason(forLeavingOut: rule) { builder.refuse(rule, reason) }
        }
    }

    /// A rule that ends the way of some packets before a DNAT.
    private struct Obstacle {
        let line: Int
        let condition: PacketCondition
    }

    private mutating func follow(
        _ chain: String, of table: IptablesRule.Table, _ condition: PacketCondition, _ depth: Int,
        _ ended: inout [Obstacle]
    ) {
        guard depth < 16 else { return }
        var returned: [Obstacle] = []
        for rule in rules.chain(chain, in: table) {
            guard let target = rule.target, let both = condition.intersection(rule.condition) else { continue }
            switch target {
            case "DNAT":
                visited.insert(rule.line)
                let obstacle = (ended + returned).first { $0.condition.intersection(both) != nil }
                if let obstacle {
                    builder.refuse(rule, "line \(obstacle.line) lets packets go before they come here")
                } else {
                    builder.add(rule, both)
                }
            case "RETURN": note(rule, both, &returned)
            case "ACCEPT", "DROP", "REDIRECT", "NETMAP": note(rule, both, &ended)
            default:
                if !target.hasPrefix("KUBE-") { follow(target, of: table, both, depth + 1, &ended) }
            }
        }
    }

    private func note(_ rule: IptablesRule, _ condition: PacketCondition, _ obstacles: inout [Obstacle]) {
        if let interface = condition.interface, rules.containerSides.contains(interface) { return }
        obstacles.append(Obstacle(line: rule.line, condition: condition))
    }

    /// Why a rule that is not on the way of packets from outside is not imported; nil for one that needs no words.
    private static func reason(forLeavingOut rule: IptablesRule) -> String? {
        guard let target = rule.target else { return nil }
        if rule.table.name == "nat" {
            if [rule.chain, target].contains(where: { $0.hasPrefix("KUBE-") }) {
                return translates(target) ? "kube-proxy's: it follows the cluster, which fastnat does not" : nil
            }
            switch target {
            case "MASQUERADE", "SNAT": return "masquerade, not imported yet: it is for connections that containers open"
            case "REDIRECT": return "it leads to the host itself, not to a container"
            case "NETMAP": return "it translates whole networks"
            case "DNAT": return "packets from outside do not come here"
            default: return nil
            }
        }
        guard rule.table.name == "filter", ["FORWARD", "DOCKER-USER"].contains(rule.chain),
            ["DROP", "REJECT"].contains(target)
        else { return nil }
        return "the packet filter does not see what fastnat publishes: say with allow who may connect"
    }

    private static func translates(_ target: String) -> Bool {
        ["DNAT", "SNAT", "MASQUERADE", "REDIRECT"].contains(target)
    }
}
