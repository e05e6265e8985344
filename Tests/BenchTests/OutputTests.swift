import Foundation
import Testing

@testable import Bench

@Suite("Output of the benchmark") struct OutputTests {
    @Test("The table for terminals")
    func table() throws {
        let lines = ReportTables(.sample()).text().split(separator: "\n", omittingEmptySubsequences: false).map(
            String.init)
        let start = try #require(lines.firstIndex { $0.hasPrefix("pps  ") })
        #expect(
            Array(lines[(start + 1)...(start + 7)]) == [
                "                          direct",
                "                          1 flow",
                "              packets, packets/s",
                "iptables-nft       1.00 M  1.00×",
                "docker-proxy                   –",
                "fastnat-xdp        4.00 M  4.00×",
                "",
            ])
        #expect(lines.contains("  docker-proxy: of 64 packets, 3 <arrived> & \"no more\""))
    }

    @Test("What is noisy says so")
    func noise() {
        let text = ReportTables(.sample(spread: [0.5, 1, 1.5])).text()
        #expect(text.contains("~4.00 M  4.00×"))
    }

    @Test("Wide workloads are cut into tables that fit")
    func width() {
        var report = Report.sample()
        let series = report.workloads[0].series[0]
        report.workloads[0].series = [Series](repeating: series, count: 9)
        for line in ReportTables(report).text(width: 100).split(separator: "\n").dropFirst(2) where line.contains("M  ")
        {
            #expect(line.count <= 100)
        }
    }

    @Test("The progress bar", arguments: [(0, "░░░░"), (2, "██░░"), (4, "████"), (9, "████")])
    func bar(done: Int, text: String) { #expect(Progress.bar(done, of: 4, width: 4) == text) }

    @Test("Figures go between the marks of a document, and nothing else changes")
    func document() throws {
        let (begin, end) = ("<!-- figures: written by make bench-docs -->", "<!-- end of figures -->")
        let text = "before\n\(begin)\nold\n\(end)\nafter\n"
        let updated = try BenchmarkDocument.updated(text, with: .sample(), name: "d.md")
        #expect(updated.hasPrefix("before\n\(begin)\n") && updated.hasSuffix("\(end)\nafter\n"))
        #expect(!updated.contains("old"))
        #expect(updated.contains("| `fastnat-xdp` | 4.00 M  4.00× |"))
        #expect(try BenchmarkDocument.updated(updated, with: .sample(), name: "d.md") == updated)
        #expect(throws: BenchError.self) { try BenchmarkDocument.updated("none", with: .sample(), name: "d.md") }
        #expect(throws: BenchError.self) { try BenchmarkDocument.updated(begin, with: .sample(), name: "d.md") }
    }

    @Test("A summary has the reference's figure, how much better others are, and what was measured alone")
    func summary() throws {
        let text = "<!-- summary: written by make bench-docs -->\n<!-- end of summary -->\n"
        let updated = try BenchmarkDocument.updated(text, with: .sample(), name: "r.md")
        let rows = updated.split(separator: "\n").filter { $0.hasPrefix("| ") }.map(String.init)
        #expect(
            rows == [
                "| | `iptables-nft` | `nftables` | `docker-proxy` | `fastnat-tc` | `fastnat-xdp` |",
                "| packets of one flow | 1.00 M packets/s | – | – | – | 4.00× |",
                "| response time over TCP, p50 | 10.0 µs | – | 0.25× | – | 1.25× |",
            ])
    }

    @Test("The README's summary is of the committed figures")
    func committed() throws {
        let root = String(#filePath.dropLast("Tests/BenchTests/OutputTests.swift".count))
        let report = try Report(readingFrom: root + "docs/benchmarks.json")
        for name in ["README.md", "docs/benchmarks.md"] {
            let text = try #require(textFile(root + name))
            #expect(try BenchmarkDocument.updated(text, with: report, name: name) == text)
        }
    }

    @Test("Names of workloads are those of the command line", arguments: WorkloadKind.allCases)
    func names(kind: WorkloadKind) { #expect(kind.workload.name == kind.rawValue) }

    @Test("Another build is measured where there is one, and compared round by round")
    func otherBuild() {
        let own = BenchOptions(binary: "fastnat", version: "0")
        let others = own.paths.filter(\.isOther)
        #expect(others.isEmpty)
        let both = BenchOptions(paths: [.fastnatXDP, .otherXDP], binary: "fastnat", other: "before", version: "0")
        #expect(both.paths == [.iptablesNFT, .fastnatXDP, .otherXDP])
        let cells: [(PathKind, [Double])] = [
            (.fastnatXDP, [20, 36, 30]), (.otherXDP, [10, 30, 20]), (.fastnatTC, [5]),
        ]
        let faster = BuildTable(.of("pps", .packetsPerSecond, [("s", cells)]))
        #expect(faster.rows == [["pps, s: m", "fastnat-xdp", "1.500 × other-xdp", "0.267 apart in 3 turns"]])
        let slower = BuildTable(.of("pps", .nanoseconds, [("s", cells)]))
        #expect(slower.rows.first?[2] == "0.667 × other-xdp")
    }

    @Test("Figures of a workload have names of their own", arguments: WorkloadKind.allCases, [true, false])
    func uniqueNames(kind: WorkloadKind, quick: Bool) {
        let options = BenchOptions(quick: quick, binary: "fastnat", version: "0")
        let names = kind.workload.groups(options).flatMap(\.measurements).flatMap { measurement in
            measurement.metrics.map { "\(measurement.name), \($0.name)" }
        }
        #expect(!names.isEmpty && Set(names).count == names.count)
    }
}
