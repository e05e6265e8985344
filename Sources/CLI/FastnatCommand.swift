internal import ArgumentParser

/// The command line.
@main
struct FastnatCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fastnat",
        abstract: "Publishes the ports of containers on a host, in eBPF at XDP and TC.",
        discussion: """
            fastnat load --iface eth0
            fastnat map add 8080 172.17.0.2:80

            Exit status: 0 success; 64 wrong usage or malformed argument; 65 wrong file; 66 no such interface or mapping; \
            68 target not routable; 69 not loaded; 70 refused by the kernel; 71 kernel too old or not configured; \
            73 conflict or table full; 75 another fastnat is at work; 77 not permitted.
            """,
        version: "0.1.0",
        subcommands: [
            LoadCommand.self, UnloadCommand.self, MapCommand.self, ConntrackCommand.self, StatusCommand.self,
        ])
}
