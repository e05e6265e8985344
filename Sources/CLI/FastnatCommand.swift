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

            Exit status: 0 success; \
            \(ExitStatus.allCases.map { "\($0.rawValue) \($0.meaning)" }.joined(separator: "; ")).
            """,
        version: "0.1.0",
        subcommands: [
            LoadCommand.self, UnloadCommand.self, ApplyCommand.self, SaveCommand.self, MapCommand.self,
            MasqueradeCommand.self, DockerCommand.self, ImportCommand.self, ExportCommand.self, ConntrackCommand.self,
            StatusCommand.self, BenchCommand.self, CNICommand.self,
        ])

    /// Container runtimes call the program by another name, and with no arguments.
    static func main() {
        if CNIEntry.isWanted { CNIEntry.run() }
        main(nil)
    }
}
