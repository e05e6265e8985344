internal import Addresses
internal import FastNAT

/// A rule of nftables, taken apart: it may stand for several, because a set or a map holds several values.
struct NftRule {
    /// What a set or map of the rule's table holds.
    let elements: (String) -> [NftValue]?
    private(set) var conditions: [PacketCondition] = [PacketCondition()]
    private(set) var outcomes: [(PacketCondition, RuleAction)] = []

    init(_ statements: [NftValue], elements: @escaping (String) -> [NftValue]?) {
        self.elements = elements
        for statement in statements {
            if let (name, value) = statement.only { take(name, value, statement) }
        }
        if outcomes.isEmpty { conclude(.none) }
    }

    private mutating func take(_ name: String, _ value: NftValue, _ statement: NftValue) {
        switch name {
        case "match":
            let match = NftMatch(
                left: value["left"] ?? .none, isNegated: value["op"]?.text == "!=",
                values: values(value["right"] ?? .none), text: statement.description)
            let isComparison = ["==", "in", "!="].contains(value["op"]?.text)
            demand(isComparison ? match.conditions : [PacketCondition(other: match.text)])
        case "counter", "log", "mangle", "notrack": break
        case "accept": conclude(.accept)
        case "drop", "reject": conclude(.drop)
        case "return": conclude(.return)
        case "jump": conclude(.jump(value["target"]?.text ?? ""))
        case "goto": conclude(.goto(value["target"]?.text ?? ""))
        case "vmap": split(value) { $0.only.map { Self.verdict($0.name, $0.value) } }
        case "dnat": destinations(value)
        case "snat": conclude(Self.source(value))
        case "masquerade":
            conclude(.masquerade(ports: value["port"]?.description, others: Self.flags(value)))
        case "redirect": conclude(.redirect)
        case "xt":
            let reason = "iptables-nft wrote it, and nft does not show all of it: import iptables reads it"
            if value["type"]?.text == "target" {
                conclude(.untranslatable(reason))
            } else {
                demand([PacketCondition(other: "\(statement.description) (\(reason))")])
            }
        default: demand([PacketCondition(other: statement.description)])
        }
    }

    private mutating func demand(_ alternatives: [PacketCondition]) {
        conditions = conditions.flatMap { one in alternatives.compactMap(one.intersection) }
    }

    private mutating func conclude(_ action: RuleAction) {
        outcomes += conditions.map { ($0, action) }
    }

    private static func verdict(_ name: String, _ value: NftValue) -> RuleAction {
        switch name {
        case "accept": .accept
        case "drop": .drop
        case "return": .return
        case "jump": .jump(value["target"]?.text ?? "")
        case "goto": .goto(value["target"]?.text ?? "")
        default: .none
        }
    }

    /// The values on the right of a comparison, those of sets and lists one by one.
    private func values(_ value: NftValue) -> [NftValue] {
        if let name = value.text, name.hasPrefix("@") { return elements(name) ?? [] }
        let list = value["set"]?.list ?? value.list ?? [value]
        return list.map { $0["elem"]?["val"] ?? $0 }
    }

    /// The pairs of a map.
    private func pairs(_ map: NftValue) -> [(key: NftValue, value: NftValue)] {
        values(map["data"] ?? .none).compactMap { element in
            guard let pair = element.list, pair.count == 2 else { return nil }
            return (pair[0]["elem"]?["val"] ?? pair[0], pair[1])
        }
    }

    /// An outcome for each pair of a map.
    private mutating func split(_ map: NftValue, _ action: (NftValue) -> RuleAction?) {
        for (key, value) in pairs(map) {
            guard let action = action(value) else { continue }
            let match = NftMatch(
                left: map["key"] ?? .none, isNegated: false, values: [key],
                text: "\((map["key"] ?? .none).description) \(key.description)")
            outcomes += conditions.flatMap { one in
                match.conditions.compactMap(one.intersection).map { ($0, action) }
            }
        }
    }

    // MARK: Translations

    private mutating func destinations(_ value: NftValue) {
        let others = Self.flags(value)
        if let map = value["addr"]?["map"] {
            let port = value["port"]
            split(map) { target in
                let parts = target["concat"]?.list ?? [target]
                guard let address = parts.first?.text else { return .untranslatable("its map is for no address") }
                let ports = parts.count > 1 ? parts[1] : port
                return .dnat(Self.place(address, ports), others: others)
            }
        } else if let address = value["addr"]?.text, let map = value["port"]?["map"] {
            for run in runs(map) {
                let pair = NftValue.list([.object(["range": .list(run.keys)]), .text(run.ports)])
                let one = NftValue.object(["key": map["key"] ?? .none, "data": .object(["set": .list([pair])])])
                split(one) { .dnat(Self.host(address) + ":" + ($0.text ?? ""), others: others) }
            }
        } else if let address = value["addr"]?.text {
            conclude(.dnat(Self.place(address, value["port"]), others: others))
        } else {
            conclude(value["addr"] == nil ? .redirect : .untranslatable("a mapping has one target"))
        }
        if outcomes.isEmpty { conclude(.untranslatable("its map is empty")) }
    }

    /// Ports one after another that lead to ports one after another, as iptables writes that.
    private func runs(_ map: NftValue) -> [(keys: [NftValue], ports: String)] {
        let pairs = pairs(map).compactMap { pair -> (key: Int, port: Int)? in
            guard let key = pair.key.number, let port = pair.value.number else { return nil }
            return (key, port)
        }.sorted { $0.key < $1.key }
        var runs: [(first: (key: Int, port: Int), count: Int)] = []
        for pair in pairs {
            if let last = runs.last, pair.key == last.first.key + last.count, pair.port == last.first.port + last.count
            {
                runs[runs.count - 1].count += 1
            } else {
                runs.append((pair, 1))
            }
        }
        return runs.map { first, count in
            let ports = count == 1 ? "\(first.port)" : "\(first.port)-\(first.port + count - 1)/\(first.key)"
            return ([.number(first.key), .number(first.key + count - 1)], ports)
        }
    }

    private static func source(_ value: NftValue) -> RuleAction {
        guard let address = value["addr"]?.text else {
            return .untranslatable("a masquerade has one address, or the uplink's")
        }
        return .snat(place(address, value["port"]), others: flags(value))
    }

    private static func flags(_ value: NftValue) -> [String] {
        (value["flags"].map { $0.list ?? [$0] } ?? []).map(\.description)
    }

    private static func host(_ address: String) -> String { address.contains(":") ? "[\(address)]" : address }

    private static func place(_ address: String, _ ports: NftValue?) -> String {
        ports.map { host(address) + ":" + $0.description } ?? address
    }
}

extension PacketCondition {
    fileprivate init(other text: String) {
        self.init()
        others = [text]
    }
}
