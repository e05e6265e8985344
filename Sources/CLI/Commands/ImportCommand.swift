internal import ArgumentParser
internal import Configuration
internal import FastNAT
internal import Rules

/// `fastnat import`
struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Make mappings of the rules that publish ports already.",
        subcommands: [ImportIptablesCommand.self])
}

/// `fastnat import iptables`
struct ImportIptablesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "iptables",
        abstract: "Read what iptables-save and ip6tables-save write.",
        discussion: """
            Prints a configuration file for fastnat apply. Rules that are no mapping go to standard error, each with its line \
            and the reason. The rules themselves stay as they are.
            """)

    @Argument(
        help: "What iptables-save wrote; - for standard input. Without it, iptables-save and ip6tables-save are run.")
    var file: String?

    @Flag(help: "Add the mappings, of the owner import, in place of printing them.")
    var apply = false

    @Flag(help: "Publish also what a local program listens on, such as docker-proxy.")
    var force = false

    func run() throws {
        var text = ""
        try reporting { () throws(FastNATError) in text = try readRules() }
        let rules = RuleImport(iptables: text)
        for refusal in rules.refusals {
            complain("\(file ?? "iptables"):\(refusal.line): \(refusal.reason): \(refusal.rule)")
        }
        guard apply else {
            return print(Configuration.text(rules.state(of: Configuration.owner, force: force)), terminator: "")
        }
        try reporting { () throws(FastNATError) in
            let loaded = try LoadedDatapath(for: .change)
            if let uplink = rules.uplink, try loaded.state(of: .imported).uplinks?.map(\.name) != [uplink] {
                throw .unusableInterface(
                    uplink, problem: "the rules are for it alone, and a mapping is for every uplink: load with it alone"
                )
            }
            let present = Set(try loaded.datapath.mappings().map(\.mapping))
            try loaded.publish(rules.mappings.filter { !present.contains($0) }, of: .imported, force: force)
        }
    }

    private func readRules() throws(FastNATError) -> String {
        if let file { return String(decoding: try readFile(file), as: UTF8.self) }
        return try output(of: "iptables-save") + output(of: "ip6tables-save")
    }
}
