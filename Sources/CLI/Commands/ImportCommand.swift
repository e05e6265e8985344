internal import Addresses
internal import ArgumentParser
internal import Configuration
internal import FastNAT
internal import Rules

/// `fastnat import`
struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Make mappings and masquerades of the rules that translate addresses already.",
        subcommands: [ImportIptablesCommand.self, ImportNftCommand.self])
}

/// `fastnat import iptables`
struct ImportIptablesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "iptables",
        abstract: "Read what iptables-save and ip6tables-save write.",
        discussion: """
            Prints a configuration file for fastnat apply. What cannot be imported goes to standard error, each rule with its line \
            and the reason. The rules themselves stay as they are.
            """)

    @Argument(
        help: "What iptables-save wrote; - for standard input. Without it, iptables-save and ip6tables-save are run.")
    var file: String?

    @OptionGroup var options: ImportOptions

    func run() throws {
        var text = ""
        try reporting { () throws(FastNATError) in text = try readRules() }
        try options.finish(RuleImport(iptables: text, uplink: options.uplink), from: file ?? "iptables")
    }

    private func readRules() throws(FastNATError) -> String {
        if let file { return String(decoding: try readFile(file), as: UTF8.self) }
        return String(decoding: try output(of: "iptables-save") + output(of: "ip6tables-save"), as: UTF8.self)
    }
}

/// `fastnat import nft`
struct ImportNftCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nft",
        abstract: "Read what nft -j list ruleset prints.",
        discussion: """
            Prints a configuration file for fastnat apply. What cannot be imported goes to standard error, each rule with its \
            table, its handle (nft -a list ruleset) and the reason. The rules themselves stay as they are.
            """)

    @Argument(help: "What nft -j list ruleset has printed; - for standard input. Without it, nft is run.")
    var file: String?

    @OptionGroup var options: ImportOptions

    func run() throws {
        var bytes: [UInt8] = []
        try reporting { () throws(FastNATError) in
            if let file { bytes = try readFile(file) } else { bytes = try output(of: "nft", "-j list ruleset") }
        }
        // Without nft, or without rules, there is nothing.
        let isEmpty = bytes.allSatisfy { $0 == UInt8(ascii: "\n") }
        guard let rules = isEmpty ? RuleImport() : RuleImport(nft: bytes, uplink: options.uplink) else {
            complain("fastnat: \(file ?? "nft") is not what nft -j list ruleset prints: do not leave out -j")
            throw ExitCode(ExitStatus.data.rawValue)
        }
        try options.finish(rules, from: file ?? "nft")
    }
}

/// What becomes of imported rules.
struct ImportOptions: ParsableArguments {
    @Flag(help: "Add the mappings and masquerades, of the owner import, in place of printing them.")
    var apply = false

    @Flag(help: "Publish also what a local program listens on, such as docker-proxy.")
    var force = false

    @Option(
        name: .customLong("uplink"),
        help: "The uplink of masquerades whose rules name none. Default: the interface of the default route.")
    var uplinkName: String?

    /// The uplink of a family's masquerades whose rules name none.
    func uplink(_ family: IPFamily) -> String? { uplinkName ?? defaultUplink(family) }

    /// Says what is not imported, and prints or adds the rest.
    func finish(_ rules: RuleImport, from source: String) throws {
        for refusal in rules.refusals {
            complain("\(source):\(refusal.place): \(refusal.reason): \(refusal.rule)")
        }
        guard apply else {
            return print(Configuration.text(rules.state(of: Configuration.owner, force: force)), terminator: "")
        }
        try reporting { () throws(FastNATError) in try add(rules) }
    }

    private func add(_ rules: RuleImport) throws(FastNATError) {
        let loaded = try LoadedDatapath(for: .change)
        if let uplink = rules.uplink, try loaded.state(of: .imported).uplinks?.map(\.name) != [uplink] {
            throw .unusableInterface(
                uplink, problem: "the rules are for it alone, and a mapping is for every uplink: load with it alone")
        }
        let present = Set(try loaded.datapath.mappings().map(\.mapping))
        let masquerades = Set(try loaded.masquerades().map(\.rule))
        try loaded.masquerade(rules.masquerades.filter { !masquerades.contains($0) }, of: .imported)
        try loaded.publish(rules.mappings.filter { !present.contains($0) }, of: .imported, force: force)
    }
}
