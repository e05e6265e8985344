internal import Addresses
public import ArgumentParser
public import FastNAT

extension MasqueradeFilter: ExpressibleByArgument {}
extension MasqueradeType.Name: ExpressibleByArgument {}

/// `fastnat masquerade`
struct MasqueradeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "masquerade",
        abstract: "Let containers reach the world with an address of this host.",
        subcommands: [MasqueradeAddCommand.self, MasqueradeRemoveCommand.self, MasqueradeListCommand.self])
}

/// `fastnat masquerade add`
struct MasqueradeAddCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Masquerade the connections that begin in a network and leave by an uplink.",
        discussion: """
            What goes to other containers or to the host itself is not touched. The address is the one that the kernel would \
            send from, as it is then; the source port stays, or becomes a free one.
            """)

    @Argument(help: "The containers' network, such as 172.17.0.0/16.")
    var network: String

    @Option(name: .customLong("iface"), help: "The uplink that packets leave by.")
    var uplink: String

    @Option(help: "The address that they get, of this host. Default: the one that the kernel would send from.")
    var to: String?

    @Option(help: "The ports that they get, such as 32768-60999. Default: any; below 1024 for those below 1024.")
    var ports: String?

    @Option(parsing: .upToNextOption, help: "Networks to which containers keep their own address (CIDR).")
    var exempt: [String] = []

    @Option(help: "symmetric: a port for each connection; eim: one for each port of a container (RFC 4787, REQ-1).")
    var type: MasqueradeType.Name = .symmetric

    @Option(
        help: "Who may send to a port of eim: endpoint (anybody), address (whom it has sent to), port (the same port).")
    var filter: MasqueradeFilter?

    @Option(help: "Whose the masquerade is: a short text such as docker:bridge.")
    var owner: String?

    @OptionGroup var limits: LimitOptions

    func run() throws {
        try reporting { () throws(FastNATError) in
            let rule = try rule()
            let owner = try parseOwner(owner)
            try LoadedDatapath(for: .change).masquerade([rule], of: owner)
        }
    }

    private func rule() throws(FastNATError) -> MasqueradeRule {
        let parts: (network: IPPrefix, source: IPAddress?, ports: PortRange?, exempt: [IPPrefix], limits: FlowLimits)
        do throws(MappingError) {
            parts = (
                try parsePrefix(network), try to.map(parseAddress),
                try ports.map { text throws(MappingError) in try PortRange(parsing: text) },
                try exempt.map(parsePrefix), try limits.limits()
            )
        } catch {
            throw .mapping(error)
        }
        do throws(MasqueradeError) {
            return try MasqueradeRule(
                network: parts.network, uplink: uplink, source: parts.source, ports: parts.ports, exempt: parts.exempt,
                type: try MasqueradeType(type, filter: filter), limits: parts.limits)
        } catch {
            throw .masquerade(error)
        }
    }
}

/// `fastnat masquerade rm`
struct MasqueradeRemoveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Masquerade a network no more, or all of an owner.",
        discussion: "New connections stop at once. Established TCP connections drain; UDP flows end.")

    @Argument(help: "The network, as it was added.")
    var network: String?

    @Option(help: "Remove only what is this owner's: all of it, or the masquerade of the network.")
    var owner: String?

    func validate() throws {
        if network == nil && owner == nil {
            throw ValidationError("give a network (fastnat masquerade rm 172.17.0.0/16), or --owner OWNER")
        }
    }

    func run() throws {
        try reporting { () throws(FastNATError) in
            let owner = try parseOwner(owner)
            let prefix: IPPrefix?
            do throws(MappingError) { prefix = try network.map(parsePrefix) } catch { throw .mapping(error) }
            let loaded = try LoadedDatapath(for: .change)
            if let prefix {
                try loaded.removeMasquerade(of: prefix, owner: owner)
            } else if let owner, try loaded.removeMasquerades(of: owner) == 0 {
                throw .noMasqueradeOf(owner, nil)
            }
        }
    }
}

/// `fastnat masquerade list`
struct MasqueradeListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List masquerades with their counters.")

    @Flag(help: "Print one JSON array.")
    var json = false

    func run() throws {
        var masquerades: [InstalledMasquerade] = []
        try reporting { () throws(FastNATError) in masquerades = try LoadedDatapath(for: .read).masquerades() }
        if json { return try printJSON(masquerades.map { Limited(MasqueradeRecord($0), $0.rule.limits) }) }
        let hasLimits = masquerades.contains { !$0.rule.limits.isEmpty }
        let counters = ["OWNER", "FLOWS", "PACKETS", "BYTES"]
        var table = Table(
            ["NETWORK", "UPLINK", "TO", "PORTS", "EXEMPT", "TYPE"] + (hasLimits ? ["LIMITS"] : []) + counters)
        for installed in masquerades {
            let rule = installed.rule
            let exempt = rule.exempt.map(\.description).joined(separator: ",")
            table.add(
                [
                    rule.network.description, rule.uplink, rule.source?.description ?? "as the kernel",
                    rule.ports?.description ?? "any", exempt.isEmpty ? "none" : exempt,
                    rule.type.filter.map { "eim/\($0.rawValue)" } ?? rule.type.name,
                ] + (hasLimits ? [rule.limits.cell] : []) + [installed.owner?.text ?? "-"]
                    + [installed.flows.description, installed.packets.description, installed.bytes.description])
        }
        print(table.render())
    }
}
