internal import ArgumentParser
internal import Configuration
internal import FastNAT

/// `fastnat save`
struct SaveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "save",
        abstract: "Write what is running as a configuration file.",
        discussion: """
            fastnat apply of that file changes nothing, but that mappings which were added by hand become the file's. Mappings \
            of other owners are left to them, and listed in a comment.
            """)

    @Argument(help: "The file to write or replace; standard output if none is given.")
    var file: String?

    func run() throws {
        var text = ""
        try reporting { () throws(FastNATError) in
            let loaded = try LoadedDatapath(for: .read)
            let others = try loaded.datapath.mappings().filter { $0.owner != nil && $0.owner != Configuration.owner }
            text = Configuration.text(try loaded.state(of: Configuration.owner), others: others)
            if let file { try replaceFile(file, with: text) }
        }
        if file == nil { print(text, terminator: "") }
    }
}
