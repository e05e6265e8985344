internal import Addresses
internal import FastNAT

/// What the network configuration says for this plugin: keys of fastnat's own, and those of the reference portmap plugin.
struct PluginOptions {
    /// Interfaces towards clients; empty: those of the default routes.
    let uplinks: [String]
    let mode: HookMode
    /// Flows at most; nil: the default.
    let maximumFlows: Int?
    /// Publish also what a local program listens on.
    let force: Bool
    /// nil: containers' connections are left to others.
    let masquerade: MasqueradeOptions?
    private let conditions: [IPFamily: PacketConditions]

    init(_ fields: Fields) throws(CNIError) {
        uplinks = try fields.strings("uplinks") ?? []
        let mode = try fields.string("mode") ?? HookMode.auto.rawValue
        guard let known = HookMode(rawValue: mode) else {
            throw fields.invalid("mode", mode, "it must be auto, xdp or tc")
        }
        self.mode = known
        maximumFlows = try fields.integer("maxFlows")
        force = try fields.bool("force") ?? false
        masquerade = try MasqueradeOptions(fields)
        conditions = [
            .ipv4: try PacketConditions(fields, "conditionsV4", .ipv4),
            .ipv6: try PacketConditions(fields, "conditionsV6", .ipv6),
        ]
        try Self.checkPortmapOptions(fields)
    }

    /// For which packets ports are published.
    func conditions(_ family: IPFamily) -> PacketConditions { conditions[family] ?? PacketConditions() }

    /// What the interfaces' programs are loaded with.
    func loadRequest(uplinks: [String]) -> LoadRequest {
        var request = LoadRequest(uplinks: uplinks)
        request.mode = mode
        request.maximumFlows = maximumFlows
        return request
    }

    /// The other options of portmap. `snat`, `markMasqBit` and `externalSetMarkChain` say how netfilter lets a container and the
    /// host reach published ports, which need nothing of it here; `backend` says how netfilter is programmed.
    private static func checkPortmapOptions(_ fields: Fields) throws(CNIError) {
        _ = try fields.bool("snat")
        _ = try fields.integer("markMasqBit")
        _ = try fields.string("externalSetMarkChain")
        if try fields.bool("masqAll") == true {
            throw fields.unsupported(
                "masqAll", "true", "containers see clients' own addresses: leave it out, or keep portmap")
        }
        if let backend = try fields.string("backend"), !["iptables", "nftables"].contains(backend) {
            throw fields.invalid("backend", backend, "leave it out; portmap's iptables and nftables are ignored")
        }
    }
}

/// How containers reach the world: `"masquerade": true`, or an object.
struct MasqueradeOptions {
    /// The uplink; nil: that of the default route.
    let uplink: String?
    /// The networks; empty: those of the container's addresses.
    let networks: [IPPrefix]
    /// Networks to which containers keep their own address.
    let exempt: [IPPrefix]

    init?(_ fields: Fields) throws(CNIError) {
        guard fields.has("masquerade") else { return nil }
        if let isWanted = try? fields.bool("masquerade") {
            guard isWanted else { return nil }
            (uplink, networks, exempt) = (nil, [], [])
        } else if let members = try fields.object("masquerade") {
            uplink = try members.string("uplink")
            networks = try members.prefixes("networks") ?? []
            exempt = try members.prefixes("exempt") ?? []
        } else {
            return nil
        }
    }
}
