internal import Addresses
internal import ArgumentParser
internal import FastNAT

/// `fastnat map`
struct MapCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "map",
        abstract: "Add, remove and list port mappings.",
        subcommands: [MapAddCommand.self, MapRemoveCommand.self, MapFlushCommand.self, MapListCommand.self])
}

/// `fastnat map add`
struct MapAddCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Publish a port, a range of ports, or a file of them: all or nothing.",
        discussion: """
            LISTEN is [HOSTIP:]PORT[-END][/tcp|/udp|/sctp], TARGET is IP:PORT[-END]; IPv6 addresses stand in brackets. Without HOSTIP, \
            every local address is meant, also those that are added later. A range is one mapping: the target's range is as \
            long, or a single port for all.
            """)

    @Argument(help: "[HOSTIP:]PORT[-END][/tcp|/udp|/sctp]")
    var listen: String?

    @Argument(help: "IP:PORT[-END]")
    var target: String?

    @Option(
        parsing: .upToNextOption,
        help: "Networks that may connect (CIDR); for everybody else the port is as if it were not published.")
    var allow: [String] = []

    @OptionGroup var limits: LimitOptions

    @Option(help: "A file with LISTEN TARGET [allow=CIDR,...] [limit-flows=N ...] on each line; - for standard input.")
    var file: String?

    @Option(help: "Whose the mappings are: a short text such as docker:4c01db0b339c.")
    var owner: String?

    @Flag(help: "Publish also what a local program listens on, which is then no longer reached from outside.")
    var force = false

    @Flag(
        help: "Take the place of the mapping with the same LISTEN and owner, if there is one: no packet finds neither.")
    var replace = false

    @Flag(help: "With --replace: established TCP connections to the old target do not drain, they are reset.")
    var cut = false

    func validate() throws {
        if cut && !replace {
            throw ValidationError("--cut is for the connections of a mapping that --replace replaces")
        }
        if file != nil {
            guard listen == nil, allow.isEmpty, !limits.isGiven else {
                throw ValidationError("give --file or LISTEN TARGET, not both")
            }
        } else if target == nil {
            throw ValidationError("give LISTEN and TARGET (fastnat map add 8080 172.17.0.2:80), or --file FILE")
        }
    }

    func run() throws {
        try reporting { () throws(FastNATError) in
            let mappings = try mappings()
            let owner = try parseOwner(owner)
            let loaded = try LoadedDatapath(for: .change)
            try loaded.publish(
                mappings, of: owner, force: force, replacement: replace ? FlowEnding(cut: cut) : nil)
        }
    }

    private func mappings() throws(FastNATError) -> [PortMapping] {
        if let file { return try readMappings(from: file) }
        do throws(MappingError) {
            let listen = try Listen(parsing: listen ?? "")
            let target = try Target(parsing: target ?? "")
            let allow = try allow.map(parsePrefix)
            return [try PortMapping(listen: listen, target: target, allow: allow, limits: try limits.limits())]
        } catch {
            throw .mapping(error)
        }
    }
}

/// What removing mappings does to their connections.
struct EndOptions: ParsableArguments {
    @Flag(help: "Established TCP connections do not drain: with the next segment of either end, both get a reset.")
    var cut = false
}

extension FlowEnding {
    fileprivate init(cut: Bool) { self = cut ? .cut : .drain }
}

/// `fastnat map rm`
struct MapRemoveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Remove a mapping, or all of an owner.",
        discussion: "New connections stop at once. Established TCP connections drain, or are cut; UDP flows end.")

    @Argument(help: "[HOSTIP:]PORT[-END][/tcp|/udp|/sctp], as it was added")
    var listen: String?

    @Option(help: "Remove only what is this owner's: all of it, or what listens on LISTEN.")
    var owner: String?

    @OptionGroup var end: EndOptions

    func validate() throws {
        if listen == nil && owner == nil {
            throw ValidationError("give LISTEN (fastnat map rm 8080), or --owner OWNER")
        }
    }

    func run() throws {
        try reporting { () throws(FastNATError) in
            let owner = try parseOwner(owner)
            let listens = try listen.map { text throws(FastNATError) in [try parseListen(text)] }
            let loaded = try LoadedDatapath(for: .change)
            let ending = FlowEnding(cut: end.cut)
            if let listens {
                try loaded.datapath.removeMappings(listens, of: owner, ending: ending)
            } else if let owner, try loaded.datapath.removeMappings(of: owner, ending: ending) == 0 {
                throw .noMappingOf(owner, nil)
            }
        }
    }
}

/// `fastnat map flush`
struct MapFlushCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flush", abstract: "Remove every mapping.",
        discussion: "New connections stop at once. Established TCP connections drain, or are cut; UDP flows end.")

    @OptionGroup var end: EndOptions

    func run() throws {
        try reporting { () throws(FastNATError) in
            let loaded = try LoadedDatapath(for: .change)
            try loaded.datapath.removeAllMappings(ending: FlowEnding(cut: end.cut))
        }
    }
}

/// `fastnat map list`
struct MapListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List mappings with their counters.")

    @Flag(help: "Print one JSON array.")
    var json = false

    func run() throws {
        var mappings: [InstalledMapping] = []
        try reporting { () throws(FastNATError) in
            mappings = try LoadedDatapath(for: .read).datapath.mappings()
        }
        if json { return try printJSON(mappings.map { Limited(MappingRecord($0), $0.mapping.limits) }) }
        let hasLimits = mappings.contains { !$0.mapping.limits.isEmpty }
        let counters = ["FLOWS", "PACKETS", "BYTES"]
        var table = Table(["LISTEN", "TARGET", "ALLOW", "OWNER"] + (hasLimits ? ["LIMITS"] : []) + counters)
        for installed in mappings {
            let allow = installed.mapping.allow.map(\.description).joined(separator: ",")
            table.add(
                [
                    installed.mapping.listen.description, installed.mapping.target.description,
                    allow.isEmpty ? "any" : allow, installed.owner?.text ?? "-",
                ] + (hasLimits ? [installed.mapping.limits.cell] : [])
                    + [installed.flows.description, installed.packets.description, installed.bytes.description])
        }
        print(table.render())
    }
}
