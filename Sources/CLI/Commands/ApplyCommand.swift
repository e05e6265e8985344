internal import ArgumentParser
internal import Configuration
internal import FastNAT

/// `fastnat apply`
struct ApplyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply",
        abstract: "Bring about what a configuration file says: all of it, or nothing.",
        discussion: """
            Loads when nothing is loaded. Uplinks, timeouts and mappings that the file has and fastnat has not are added, those \
            that fastnat has and the file has not are removed; mappings of other owners are left alone. Sections that the file \
            leaves out are left as they are. Flows go on. Applied again, it changes nothing.
            """)

    @Option(name: .shortAndLong, help: "The configuration file (YAML); - for standard input.")
    var file: String

    @Flag(help: "Print what would change, and change nothing.")
    var dryRun = false

    @Flag(help: "With --dry-run: print one JSON array.")
    var json = false

    @Flag(name: .shortAndLong, help: "Print the verifier's log when the kernel refuses a program.")
    var verbose = false

    func validate() throws {
        if json && !dryRun { throw ValidationError("--json belongs to --dry-run") }
    }

    func run() throws {
        let configuration = try readConfiguration(from: file)
        var changes: [StateChange] = []
        let remedy = "write force: true beside it"
        try reporting(verbose: verbose, at: configuration.location, forcing: remedy) { () throws(FastNATError) in
            if dryRun {
                changes = try Loader.differences(to: configuration.state)
            } else {
                let problems = try Loader.apply(configuration.state)
                for problem in problems { complain("fastnat: applied, but \(problem)") }
            }
        }
        if json { return try printJSON(changes.map(StateChangeRecord.init)) }
        for change in changes { print(change) }
    }
}
