internal import Addresses
internal import FastNAT

/// Rules of netfilter that do what the masquerades of a family do.
struct MasqueradeExport {
    /// The longest network first: it holds.
    private let rules: [MasqueradeRule]
    /// Comments on the masquerades that netfilter has no rule for.
    let left: [String]
    private let word: String

    init(_ masquerades: [MasqueradeRule], _ family: IPFamily) {
        let own = masquerades.filter { $0.network.family == family }
        rules = own.filter { $0.untold == nil }.sorted { $0.network.length > $1.network.length }
        left = own.compactMap { rule in rule.untold.map { "# \($0): masquerade \(rule)" } }
        word = family == .ipv4 ? "ip" : "ip6"
    }

    /// What follows the chain in iptables-save.
    var iptables: [String] {
        rules.flatMap { rule in
            let (source, output) = (" -s \(rule.network)", " -o \(rule.uplink)")
            let exempt = rule.exempt.map { "\(source) -d \($0)\(output) -j RETURN" }
            let action = rule.source.map { " -j SNAT --to-source \($0)" } ?? " -j MASQUERADE"
            let narrow = rule.ports.map { ports in
                let place = rule.source.map { "\($0.family == .ipv6 ? "[\($0)]" : "\($0)"):\(ports)" }
                let action = place.map { " -j SNAT --to-source \($0)" } ?? " -j MASQUERADE --to-ports \(ports)"
                return ["tcp", "udp"].map { "\(source)\(output) -p \($0)\(action)" }
            }
            return exempt + (narrow ?? []) + ["\(source)\(output)\(action)"] + end(of: rule, "\(source) -j RETURN")
        }
    }

    /// Rules of a chain of nftables.
    var nft: [String] {
        rules.flatMap { rule in
            let match = "\(word) saddr \(rule.network) oifname \"\(rule.uplink)\""
            let exempt = rule.exempt.map { "\(match) \(word) daddr \($0) return" }
            let action = rule.source.map { "snat \(word) to \($0)" } ?? "masquerade"
            let narrow = rule.ports.map { ports in
                let place = rule.source.map { "snat \(word) to \($0.family == .ipv6 ? "[\($0)]" : "\($0)"):\(ports)" }
                return ["\(match) meta l4proto { tcp, udp } \(place ?? "masquerade to :\(ports)")"]
            }
            return exempt + (narrow ?? []) + ["\(match) \(action)"]
                + end(of: rule, "\(word) saddr \(rule.network) return")
        }
    }

    /// What leaves by another uplink is left alone, also where a network around it is masqueraded there.
    private func end(of rule: MasqueradeRule, _ text: String) -> [String] {
        let isWithin = rules.contains {
            $0.network != rule.network && $0.network.contains(rule.network) && $0.uplink != rule.uplink
        }
        return isWithin ? [text] : []
    }
}

extension MasqueradeRule {
    /// What netfilter cannot do; nil: all of it can.
    fileprivate var untold: String? {
        if uplink.hasPrefix("#") { return "its uplink has gone" }
        return type == .symmetric ? nil : "netfilter has no port that is the same for all destinations"
    }
}
