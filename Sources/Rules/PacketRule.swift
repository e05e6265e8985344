internal import Addresses

/// A rule of a packet filter, whoever wrote it, or one of several that it stands for.
struct PacketRule {
    /// A table, or what iptables-save writes between `*name` and `COMMIT`.
    struct Table: Hashable {
        let name: String
        /// Whose packets come to it; nil: both families', or not known.
        let family: IPFamily?
        /// Counts those of iptables-save, because both families may be in one text.
        let number: Int
    }

    /// Counts the rules of a text: the line, where there are lines.
    let number: Int
    /// Where it stands, behind the name of the file: `37`, `ip nat handle 12`.
    let place: String
    /// What others call it: `line 37`, `handle 12 of ip nat`.
    let name: String
    let text: String
    let table: Table
    let chain: String
    let condition: PacketCondition
    let action: RuleAction
}

/// What a rule does to packets.
enum RuleAction: Hashable {
    /// Nothing that matters here.
    case none
    case accept
    case drop
    case `return`
    case jump(String)
    /// As a jump, but packets that come back do not go on here.
    case goto(String)
    /// A new destination, as iptables writes it: `IP[:PORTS[/BASE]]`; and what else the rule asks for.
    case dnat(String, others: [String])
    /// Addresses and ports that a new source is of, as iptables writes them; and what else the rule asks for.
    case snat(String, others: [String])
    /// The outgoing interface's address, and one of these ports.
    case masquerade(ports: String?, others: [String])
    case redirect
    /// What translates in a way that fastnat does not have, and why.
    case untranslatable(String)

    /// Whether it gives packets another address or port.
    var translates: Bool {
        switch self {
        case .dnat, .snat, .masquerade, .redirect, .untranslatable: true
        default: false
        }
    }
}

/// The rules of a text, in order, by table and chain.
struct PacketRules {
    /// Where packets come from.
    enum Hook: Hashable {
        case prerouting
        case postrouting
    }

    /// A chain of a table.
    struct Chain: Hashable {
        let table: PacketRule.Table
        let name: String
    }

    private(set) var rules: [PacketRule] = []
    /// The chains that translate addresses and that packets come to first, in their order.
    var entrances: [Hook: [Chain]] = [:]
    /// Chains in which people drop forwarded packets.
    var filters: Set<Chain> = []
    private var chains: [Chain: [Int]] = [:]

    mutating func append(_ rule: PacketRule) {
        chains[Chain(table: rule.table, name: rule.chain), default: []].append(rules.count)
        rules.append(rule)
    }

    /// The rules of a chain.
    func chain(_ chain: Chain) -> [PacketRule] { (chains[chain] ?? []).map { rules[$0] } }

    /// Interfaces that containers are behind: those that rules like `-s NETWORK ! -o INTERFACE -j MASQUERADE` exclude. Docker names
    /// each of its bridges so; the loopback is no way from outside either.
    func containerSides() -> Set<String> {
        rules.reduce(into: ["lo"]) { sides, rule in
            guard case .masquerade = rule.action else { return }
            sides.formUnion(rule.condition.exceptOutputs)
        }
    }
}
