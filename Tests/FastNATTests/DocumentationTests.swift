import ArgumentParser
import CNI
import Foundation
import Testing

@testable import CLI
@testable import FastNAT

/// Tables in the documentation that the program knows, too.
@Suite("documentation") struct DocumentationTests {
    @Test("docs/packet-walk.md lists the reasons of abi/reasons.h, in order")
    func reasons() throws {
        let table = try Table(after: "| reason | packets are | meaning |", in: "docs/packet-walk.md")
        let expected = Reason.all.map { ["`\($0.name)`", $0.isDrop ? "dropped" : "passed", $0.text] }
        #expect(table.rows == expected)
    }

    @Test("docs/rfc-compliance.md names a test for each requirement that is met, and each of them exists")
    func requirements() throws {
        let sources = try Self.testSources()
        let rows = try text(of: "docs/rfc-compliance.md").split(separator: "\n")
            .filter { $0.hasPrefix("| ") && !$0.contains("| asks |") }
            .map {
                $0.split(separator: "|", omittingEmptySubsequences: false).map {
                    $0.trimmingCharacters(in: .whitespaces)
                }
            }
        #expect(rows.count > 50)
        for row in rows {
            let (status, evidence) = (row[3], row[4])
            let names = evidence.split(separator: "\"", omittingEmptySubsequences: false).enumerated().filter {
                $0.offset % 2 == 1
            }.map(\.element)
            #expect(status.hasPrefix("not met") == names.isEmpty, "\(row[1]) \(row[2])")
            for name in names {
                #expect(sources.contains("`\(name)`") || sources.contains("@Test(\"\(name)\""), "\(name)")
            }
        }
    }

    /// A long name stands on a line of its own.
    private static func testSources() throws -> String {
        try ["Tests/DatapathTests", "Tests/EndToEndTests"].flatMap { folder in
            try FileManager.default.contentsOfDirectory(atPath: root.appending(path: folder).path)
                .filter { $0.hasSuffix(".swift") }.map { try text(of: "\(folder)/\($0)") }
        }.joined().replacing(/@Test\(\s+/, with: "@Test(")
    }

    @Test("README.md lists the exit statuses of the command line, in order")
    func exitStatuses() throws {
        let table = try Table(after: "| exit status | meaning |", in: "README.md")
        let expected = [["0", "success"]] + ExitStatus.allCases.map { ["\($0.rawValue)", $0.meaning] }
        #expect(table.rows == expected)
    }

    @Test("docs/kubernetes.md lists the error codes of the CNI plugin, in order")
    func errorCodes() throws {
        let table = try Table(after: "| code | meaning |", in: "docs/kubernetes.md")
        #expect(table.rows == CNIError.Code.allCases.map { ["\($0.rawValue)", $0.meaning] })
    }

    @Test("the default timeouts are the documented ones", arguments: ["README.md", "docs/state.md"])
    func timeouts(document: String) throws {
        let table = try Table(after: "| timeout | default | bounds | source |", in: document)
        let defaults = Timeouts()
        let expected = [
            ["`--tcp-half-open-timeout`", "\(defaults.tcpHalfOpen) s"],
            ["`--tcp-open-timeout`", "\(defaults.tcpOpen) s"],
            ["`--tcp-closing-timeout`", "\(defaults.tcpClosing) s"], ["`--udp-timeout`", "\(defaults.udp) s"],
            ["`--icmp-timeout`", "\(defaults.icmp) s"],
        ]
        #expect(table.rows.map { Array($0.prefix(2)) } == expected)
    }

    @Test("every option of the commands is in README.md", arguments: commands)
    func options(command: String, help: String) throws {
        let readme = try text(of: "README.md")
        for option in help.matches(of: /--[a-z][a-z-]+/).map({ String($0.output) }) {
            #expect(readme.contains(option), "\(command) \(option)")
        }
    }

    private static let commands: [(String, String)] = [
        ("load", LoadCommand.helpMessage()), ("unload", UnloadCommand.helpMessage()),
        ("apply", ApplyCommand.helpMessage()), ("save", SaveCommand.helpMessage()),
        ("import iptables", ImportIptablesCommand.helpMessage()),
        ("export iptables", ExportIptablesCommand.helpMessage()), ("export nft", ExportNftCommand.helpMessage()),
        ("map add", MapAddCommand.helpMessage()), ("map rm", MapRemoveCommand.helpMessage()),
        ("map flush", MapFlushCommand.helpMessage()), ("map list", MapListCommand.helpMessage()),
        ("masquerade add", MasqueradeAddCommand.helpMessage()),
        ("masquerade rm", MasqueradeRemoveCommand.helpMessage()),
        ("masquerade list", MasqueradeListCommand.helpMessage()),
        ("conntrack list", ConntrackListCommand.helpMessage()),
        ("conntrack count", ConntrackCountCommand.helpMessage()),
        ("conntrack flush", ConntrackFlushCommand.helpMessage()), ("status", StatusCommand.helpMessage()),
        ("docker", DockerCommand.helpMessage()), ("bench", BenchCommand.helpMessage()),
    ]
}

/// The rows of a Markdown table, headings and the line under them left out.
private struct Table {
    let rows: [[String]]

    struct Missing: Error {
        let heading: String
    }

    init(after heading: String, in document: String) throws {
        let lines = try text(of: document).split(separator: "\n", omittingEmptySubsequences: false)
        guard let start = lines.firstIndex(of: heading[...]) else { throw Missing(heading: heading) }
        rows = lines[(start + 2)...].prefix { $0.hasPrefix("|") }.map { line in
            line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
        }
    }
}

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

private func text(of document: String) throws -> String {
    try String(contentsOf: root.appending(path: document), encoding: .utf8)
}
