internal import Addresses
internal import ArgumentParser
internal import FastNAT

/// `fastnat conntrack`
struct ConntrackCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conntrack",
        abstract: "List, count and end flows.",
        subcommands: [ConntrackListCommand.self, ConntrackCountCommand.self, ConntrackFlushCommand.self])
}

/// `fastnat conntrack list`
struct ConntrackListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List flows.")

    @Flag(help: "Print one JSON array.")
    var json = false

    func run() throws {
        var flows: [Flow] = []
        try reporting { () throws(FastNATError) in flows = try LoadedDatapath(for: .read).datapath.flows() }
        if json { return try printJSON(flows.map(FlowRecord.init)) }
        var table = Table(
            "PROTOCOL", "STATE", "SOURCE", "DESTINATION", "TARGET", "AS", "PACKETS", "BYTES", "AGE", "EXPIRES")
        for flow in flows {
            table.add(
                flow.protocol.name, flow.state.rawValue, flow.original.source.description,
                destination(flow.original.destination, flow), destination(flow.reply.source, flow),
                flow.reply.destination.description,
                "\(flow.original.packets)/\(flow.reply.packets)", "\(flow.original.bytes)/\(flow.reply.bytes)",
                "\(Int(flow.age))s", "\(Int(flow.expires))s")
        }
        print(table.render())
    }

    /// Endpoints that are kept for a container are for any port, and as a rule for any address.
    private func destination(_ endpoint: Endpoint, _ flow: Flow) -> String {
        guard flow.state == .endpoint else { return endpoint.description }
        return endpoint.address.isUnspecified ? "any" : "\(endpoint.address)"
    }
}

/// `fastnat conntrack count`
struct ConntrackCountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "count", abstract: "Count flows.")

    func run() throws {
        try reporting { () throws(FastNATError) in
            print(try LoadedDatapath(for: .read).datapath.flowCount().flows)
        }
    }
}

/// `fastnat conntrack flush`
struct ConntrackFlushCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flush", abstract: "End flows: all, or those of one mapping.",
        discussion: "An ended TCP connection does not go on: its packets belong to no flow then.")

    @Option(help: "End only the flows of the mapping that listens here.")
    var mapping: String?

    func run() throws {
        try reporting { () throws(FastNATError) in
            var listen: Listen?
            if let mapping { listen = try parseListen(mapping) }
            let ended = try LoadedDatapath(for: .change).datapath.flushFlows(of: listen)
            complain("fastnat: \(ended) \(ended == 1 ? "flow" : "flows") ended")
        }
    }
}
