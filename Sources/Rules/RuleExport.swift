public import Addresses
public import FastNAT

/// Rules of other packet filters that publish what mappings publish, and masquerade what masquerades do.
public enum RuleExport {
    /// Text for `iptables-restore --noflush` (IPv4) or `ip6tables-restore --noflush`: chains FASTNAT and FASTNAT-OUTBOUND in
    /// the table nat.
    public static func iptables(
        _ mappings: [PortMapping], _ masquerades: [MasqueradeRule], _ family: IPFamily
    ) -> String {
        let chosen = ordered(mappings, family)
        var lines = [
            "*nat", ":FASTNAT - [0:0]", ":FASTNAT-OUTBOUND - [0:0]",
            "-A PREROUTING -m addrtype --dst-type LOCAL -j FASTNAT", "-A POSTROUTING -j FASTNAT-OUTBOUND",
        ]
        for mapping in chosen {
            let match = iptablesMatch(mapping.listen)
            let target = "-j DNAT --to-destination \(iptablesDestination(mapping))"
            lines += sources(mapping).map { "-A FASTNAT\($0.map { " -s \($0)" } ?? "")\(match) \(target)" }
            if !mapping.allow.isEmpty { lines.append("-A FASTNAT\(match) -j RETURN") }
        }
        let sources = MasqueradeExport(masquerades, family)
        lines += sources.iptables.map { "-A FASTNAT-OUTBOUND\($0)" }
        return (lines + ["COMMIT"] + left(mappings, family) + sources.left + [""]).joined(separator: "\n")
    }

    /// Text for `nft -f`: a table `inet fastnat`, which replaces one that is there.
    public static func nft(_ mappings: [PortMapping], _ masquerades: [MasqueradeRule]) -> String {
        var lines = [
            "table inet fastnat", "delete table inet fastnat", "table inet fastnat {", "\tchain prerouting {",
            "\t\ttype nat hook prerouting priority dstnat; policy accept;", "\t\tfib daddr type local jump publish",
            "\t}",
            "\tchain publish {",
        ]
        for mapping in IPFamily.allCases.flatMap({ ordered(mappings, $0) }) {
            let match = nftMatch(mapping)
            let word = mapping.family == .ipv4 ? "ip" : "ip6"
            lines += sources(mapping).map { source in
                "\t\t\(source.map { "\(word) saddr \($0) " } ?? "")\(match) \(nftAction(mapping))"
            }
            if !mapping.allow.isEmpty { lines.append("\t\t\(match) return") }
        }
        let sources = IPFamily.allCases.map { MasqueradeExport(masquerades, $0) }
        lines += [
            "\t}", "\tchain postrouting {", "\t\ttype nat hook postrouting priority srcnat; policy accept;",
            "\t\tjump outbound", "\t}", "\tchain outbound {",
        ]
        lines += sources.flatMap(\.nft).map { "\t\t\($0)" } + ["\t}", "}"]
        lines += IPFamily.allCases.flatMap { left(mappings, $0) } + sources.flatMap(\.left)
        return (lines + [""]).joined(separator: "\n")
    }

    /// Mappings of one address first: they beat those of any.
    private static func ordered(_ mappings: [PortMapping], _ family: IPFamily) -> [PortMapping] {
        let own = mappings.filter { $0.family == family && $0.target.address.family == family }
        return own.filter { $0.listen.address != nil } + own.filter { $0.listen.address == nil }
    }

    /// Comments on the mappings that netfilter has no rule for.
    private static func left(_ mappings: [PortMapping], _ family: IPFamily) -> [String] {
        mappings.filter { $0.family == family && $0.target.address.family != family }
            .map { "# netfilter does not translate between families: \($0)" }
            + ordered(mappings, family).filter { !$0.limits.isEmpty }
            .map { "# these rules do not limit flows: \($0)" }
    }

    /// A rule for each; nil: everybody.
    private static func sources(_ mapping: PortMapping) -> [IPPrefix?] {
        mapping.allow.isEmpty ? [nil] : mapping.allow.map(\.self)
    }

    private static func iptablesMatch(_ listen: Listen) -> String {
        let length = listen.family == .ipv6 ? 128 : 32
        let host = listen.address.map { " -d \($0)/\(length)" } ?? ""
        let (name, ports) = (listen.transport.name, listen.ports)
        return "\(host) -p \(name) -m \(name) --dport \(ports.first)\(ports.count > 1 ? ":\(ports.last)" : "")"
    }

    /// Each port to its own: the kernel keeps ports when there are none here, and counts from a base (Linux 4.18).
    private static func iptablesDestination(_ mapping: PortMapping) -> String {
        let (listen, target) = (mapping.listen.ports, mapping.target.ports)
        let address = mapping.target.address
        if listen == target && listen.count > 1 { return address.description }
        let host = mapping.family == .ipv6 ? "[\(address)]" : "\(address)"
        return target.count == 1 ? "\(host):\(target)" : "\(host):\(target)/\(listen.first)"
    }

    private static func nftMatch(_ mapping: PortMapping) -> String {
        let listen = mapping.listen
        let word = mapping.family == .ipv4 ? "ip" : "ip6"
        let host = listen.address.map { "\(word) daddr \($0)" } ?? "meta nfproto ipv\(mapping.family == .ipv4 ? 4 : 6)"
        return "\(host) \(listen.transport) dport \(listen.ports)"
    }

    /// nftables cannot count from a base, so a shifted range is a map of its ports.
    private static func nftAction(_ mapping: PortMapping) -> String {
        let (listen, target) = (mapping.listen.ports, mapping.target.ports)
        let isIPv4 = mapping.family == .ipv4
        let verb = "dnat \(isIPv4 ? "ip" : "ip6") to"
        let host = isIPv4 ? "\(mapping.target.address)" : "[\(mapping.target.address)]"
        if listen == target && listen.count > 1 { return "\(verb) \(mapping.target.address)" }
        if target.count == 1 { return "\(verb) \(host):\(target)" }
        let pairs = zip(listen.first...listen.last, target.first...target.last).map { "\($0) : \($1)" }
        return
            "\(verb) \(mapping.target.address) : \(mapping.listen.transport) dport map { \(pairs.joined(separator: ", ")) }"
    }
}
