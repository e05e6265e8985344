internal import CNI
internal import FastNAT
internal import FoundationEssentials
internal import Glibc

/// `fastnat-cni`: the program under the name by which container runtimes call it.
enum CNIEntry {
    /// The name of the CNI plugin.
    static let programName = "fastnat-cni"

    /// Whether the program was called by that name.
    static var isWanted: Bool {
        CommandLine.arguments.first?.split(separator: "/").last.map { $0 == programName } ?? false
    }

    /// Does what the runtime asks for, and ends the process.
    static func run() -> Never {
        let response = Plugin.respond(
            environment: ProcessInfo.processInfo.environment,
            input: { () throws(CNIError) in
                do throws(FastNATError) { return try readFile("-") } catch { throw CNIError(unreadable: error) }
            },
            note: { complain("\(programName): \($0)") })
        if !response.output.isEmpty { print(response.output) }
        exit(response.succeeded ? 0 : 1)
    }
}
