internal import ArgumentParser
internal import Configuration
internal import FastNAT

/// `fastnat save`
struct SaveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "save",
        abstract: "Write what is running as a configuration file.",
        discussion: """
            fastnat apply of that file changes nothing, but that what was added by hand becomes the file's. What \
            other owners have added is left to them, and listed in a comment.
            """)

    @Argument(help: "The file to write or replace; standard output if none is given.")
    var file: String?

    func run() throws {
        var text = ""
        try reporting { () throws(FastNATError) in
            let loaded = try LoadedDatapath(for: .read)
            let mappings = try loaded.datapath.mappings().map { ($0.owner, "\($0.mapping)") }
            let masquerades = try loaded.masquerades().map { ($0.owner, "masquerade \($0.rule)") }
            let others = (mappings + masquerades).compactMap { owner, text in
                owner.flatMap { $0 == Configuration.owner ? nil : "\($0): \(text)" }
            }
            text = Configuration.text(try loaded.state(of: Configuration.owner), others: others)
            if let file { try replaceFile(file, with: text) }
        }
        if file == nil { print(text, terminator: "") }
    }
}
