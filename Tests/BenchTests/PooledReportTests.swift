import Testing

@testable import Bench

@Suite("Several runs as one") struct PooledReportTests {
    /// `Report.sample()` with other packets a second at XDP.
    private func run(_ packets: [Double], date: String = "2026-01-02T03:04:05Z") -> Report {
        var report = Report.sample()
        report.machine.date = date
        let cells = report.workloads[0].series[0].cells
        report.workloads[0].series[0].cells = cells.map { cell in
            cell.path == PathKind.reference.rawValue
                ? Cell(path: cell.path, samples: packets.map { _ in 1 })
                : cell.path == PathKind.fastnatXDP.rawValue ? Cell(path: cell.path, samples: packets) : cell
        }
        return report
    }

    @Test("Samples are those of all runs, and targets say how many runs held them")
    func pooled() throws {
        let report = try Report(pooling: [
            run([6, 6, 6]), run([5, 5, 6]), run([6, 6, 7], date: "2026-01-03T00:00:00Z"),
        ])
        let series = report.workloads[0].series[0]
        #expect(series.cell("fastnat-xdp")?.samples == [6, 6, 6, 5, 5, 6, 6, 6, 7])
        #expect(series.ratio("fastnat-xdp") == 6)
        #expect(
            series.cell("docker-proxy")?.missing == Report.sample().workloads[0].series[0].cell("docker-proxy")?.missing
        )
        #expect(report.seconds == 3 * 61 && report.settings.rounds == 9)
        let runs = try #require(report.runs)
        #expect(runs.map(\.date.count) == [20, 20, 20] && runs[2].date == "2026-01-03T00:00:00Z")
        let target = try #require(report.verdicts.firstIndex { $0.figure == "pps, direct, 1 flow: packets" })
        #expect(runs.map { $0.outcomes[target] } == [.held, .missed, .held])
        #expect(TargetTable(report).rows[target].last == "held in 2 of 3")
        #expect(TargetTable(report).headings.count == TargetTable(report).rows[target].count)
        #expect(ReportPage(report).html().contains("<td>held in 2 of 3</td>"))
    }

    @Test("A run alone stays as it is")
    func alone() throws {
        #expect(try Report(pooling: [run([6])]) == run([6]))
        #expect(TargetTable(run([6])).headings.last == "")
    }

    @Test("What failed in one run has no figure")
    func failed() throws {
        var broken = run([6, 6, 6])
        broken.workloads[0].series[0].cells = broken.workloads[0].series[0].cells.map {
            Cell(path: $0.path, samples: [], missing: "it broke")
        }
        let cell = try Report(pooling: [run([6, 6, 6]), broken]).workloads[0].series[0].cell("fastnat-xdp")
        #expect(cell?.missing == "it broke" && cell?.samples == [])
    }

    @Test("Runs of different measurements or machines are no runs of one")
    func different() {
        var strided = run([6])
        strided.workloads[0].series[0].cells[0].stride = 2
        #expect(throws: BenchError.self) { try Report(pooling: [run([6]), strided]) }
        #expect(throws: Never.self) { try Report(pooling: [strided, strided]) }
        var other = run([6])
        other.workloads[0].series[0].name = "something else"
        #expect(throws: BenchError.self) { try Report(pooling: [run([6]), other]) }
        var elsewhere = run([6])
        elsewhere.machine.kernel = "5.15"
        #expect(throws: BenchError.self) { try Report(pooling: [run([6]), elsewhere]) }
        #expect(throws: BenchError.self) { try Report(pooling: []) }
    }
}
