public import Addresses
internal import FoundationEssentials

extension RuleImport {
    /// Makes mappings and masquerades of the rules that packets meet, in what `nft -j list ruleset` prints; nil when it is not that.
    ///
    /// - Parameter uplink: the interface that packets to anywhere leave by, for masquerades that name none.
    public init?(nft bytes: [UInt8], uplink: @escaping (IPFamily) -> String? = { _ in nil }) {
        guard let document = try? JSONDecoder().decode(NftValue.self, from: Data(bytes)),
            let objects = document["nftables"]?.list
        else { return nil }
        var walk = RuleWalk(PacketRules(nft: objects), uplink: uplink)
        self = walk.run()
    }
}

extension PacketRules {
    /// The rules of a list of nftables' objects.
    fileprivate init(nft objects: [NftValue]) {
        self.init()
        var elements: [String: [NftValue]] = [:]
        var entrances: [(Hook, priority: Int, Chain)] = []
        for object in objects {
            guard let (kind, value) = object.only else { continue }
            let table = PacketRule.Table(nft: value)
            switch kind {
            case "set", "map":
                let found = value["elem"]?.list ?? []
                elements["\(table.name)@\(value["name"]?.text ?? "")"] = found.map { $0["elem"]?["val"] ?? $0 }
            case "chain":
                let chain = Chain(table: table, name: value["name"]?.text ?? "")
                if value["type"]?.text == "nat", let hook = Hook(nft: value["hook"]?.text) {
                    entrances.append((hook, value["prio"]?.number ?? 0, chain))
                } else if value["hook"]?.text == "forward" {
                    filters.insert(chain)
                }
            default: break
            }
        }
        for (hook, _, chain) in entrances.sorted(by: { $0.priority < $1.priority }) {
            self.entrances[hook, default: []].append(chain)
        }
        for (number, rule) in objects.compactMap({ $0["rule"] }).enumerated() {
            append(rule, number) { table, name in elements["\(table.name)\(name)"] }
        }
    }

    private mutating func append(
        _ rule: NftValue, _ number: Int, _ elements: @escaping (PacketRule.Table, String) -> [NftValue]?
    ) {
        let table = PacketRule.Table(nft: rule)
        let chain = rule["chain"]?.text ?? ""
        let handle = rule["handle"]?.number ?? 0
        let statements = rule["expr"]?.list ?? []
        let text = statements.filter { $0["counter"] == nil }.map(\.description).joined(separator: " ")
        if chain == "DOCKER-USER" { filters.insert(Chain(table: table, name: chain)) }
        for (condition, action) in NftRule(statements, elements: { elements(table, $0) }).outcomes {
            append(
                PacketRule(
                    number: number, place: "\(table.name) handle \(handle)", name: "handle \(handle) of \(table.name)",
                    text: "\(chain) \(text)", table: table, chain: chain, condition: condition, action: action))
        }
    }
}

extension PacketRule.Table {
    /// The table that an object is in.
    fileprivate init(nft value: NftValue) {
        let family = value["family"]?.text ?? ""
        self.init(
            name: "\(family) \(value["table"]?.text ?? "")",
            family: family == "ip" ? .ipv4 : family == "ip6" ? .ipv6 : nil, number: 0)
    }
}

extension PacketRules.Hook {
    fileprivate init?(nft name: String?) {
        switch name {
        case "prerouting": self = .prerouting
        case "postrouting": self = .postrouting
        default: return nil
        }
    }
}
