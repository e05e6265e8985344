internal import ArgumentParser
internal import FastNAT

/// `fastnat unload`
struct UnloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unload",
        abstract: "Detach and leave nothing: no program, link, queueing discipline, map or pin.")

    @Option(name: .customLong("iface"), help: "Detach from this uplink alone; everything else stays.")
    var uplink: String?

    func run() throws {
        try reporting { () throws(FastNATError) in
            if let uplink { try Loader.unload(uplink: uplink) } else { try Loader.unload() }
        }
    }
}
