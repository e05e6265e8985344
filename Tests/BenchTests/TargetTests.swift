import Testing

@testable import Bench

@Suite("Targets of the benchmark") struct TargetTests {
    @Test("A figure is divided by that of another path", arguments: [(5.6, Verdict.Outcome.held), (5.4, .missed)])
    func times(value: Double, outcome: Verdict.Outcome) throws {
        let report = Report.of("pps", .packetsPerSecond, [("s", [(.iptablesNFT, [2]), (.fastnatXDP, [value * 2])])])
        let target = Target(.pps, "s", metric: "m", .fastnatXDP, .times(5.5, .iptablesNFT))
        let verdict = try #require(target.verdict(in: report))
        #expect(verdict.outcome == outcome && verdict.target == "≥ 5.5 × iptables-nft")
        #expect(verdict.text == (value == 5.6 ? "5.60" : "5.40") && verdict.figure == "pps, s: m")
    }

    @Test("Where less is better, the limit is above", arguments: [(7.4, Verdict.Outcome.held), (7.6, .missed)])
    func less(value: Double, outcome: Verdict.Outcome) throws {
        let report = Report.of("rr", .microseconds, [("s", [(.iptablesNFT, [10]), (.fastnatTC, [value])])])
        let target = Target(.rr, "s", metric: "m", .fastnatTC, .times(0.75, .iptablesNFT))
        let verdict = try #require(target.verdict(in: report))
        #expect(verdict.outcome == outcome && verdict.target == "≤ 0.75 × iptables-nft")
    }

    @Test("Of several figures the worst counts, and is named")
    func worst() throws {
        let report = Report.of(
            "rr", .microseconds,
            [
                ("a", [(.iptablesNFT, [10]), (.fastnatTC, [5])]), ("b", [(.iptablesNFT, [10]), (.fastnatTC, [9])]),
            ])
        let target = Target(.rr, "a", "b", metric: "m", .fastnatTC, .times(0.75, .iptablesNFT))
        #expect(try #require(target.verdict(in: report)).text == "0.90 (b)")
    }

    @Test("Other bounds: the better of two, an absolute figure, a lead")
    func bounds() throws {
        let cells: [(PathKind, [Double])] = [
            (.iptablesNFT, [1]), (.fastnatTC, [4]), (.fastnatXDP, [8]), (.fastnatAuto, [6]),
        ]
        let report = Report.of("bulk", .gigabitsPerSecond, [("a", cells)])
        func verdict(_ bound: Target.Bound) throws -> Verdict {
            try #require(Target(.bulk, "a", metric: "m", .fastnatAuto, bound).verdict(in: report))
        }
        #expect(try verdict(.best(0.95, [.fastnatTC, .fastnatXDP])).measured == 0.75)
        #expect(try verdict(.value(7)).outcome == .missed)
        #expect(try verdict(.value(5)).text == "6.00 Gbit/s")
        #expect(try verdict(.lead(0.9, .bulk, "a", metric: "m")).measured == 1)
    }

    @Test(
        "What a limit misses too is beyond it: the best of the bare ones, or else that redirect; the worst series",
        arguments: [(3.0, Verdict.Outcome.beyond, "4.00"), (4.5, .held, "4.00")])
    func limits(value: Double, outcome: Verdict.Outcome, limit: String) throws {
        var cells: [(PathKind, [Double])] = [
            (.iptablesNFT, [1]), (.fastnatTC, [value]), (.redirectTC, [3]), (.redirectPeer, [4]),
        ]
        let target = Target(.pps, "a", metric: "m", .fastnatTC, .times(4.2, .iptablesNFT))
        var verdict = try #require(target.verdict(in: Report.of("pps", .packetsPerSecond, [("a", cells)])))
        #expect(verdict.outcome == outcome && verdict.limitText == limit)
        cells.append((.bareTC, [9]))
        verdict = try #require(target.verdict(in: Report.of("pps", .packetsPerSecond, [("a", cells)])))
        #expect(verdict.outcome == (outcome == .held ? .held : .missed) && verdict.limitText == "9.00")
        let both = Target(.pps, "a", "b", metric: "m", .fastnatTC, .times(4.2, .iptablesNFT))
        let series = [("a", cells), ("b", cells.dropLast() + [(.bareTC, [3.5])])]
        #expect(try #require(both.verdict(in: Report.of("pps", .packetsPerSecond, series))).limitText == "3.50")
    }

    @Test(
        "The limit of a lead elsewhere is what a limit reaches here, of its own lead there",
        arguments: [(3.0, Verdict.Outcome.beyond, "0.75"), (5, .missed, "1.25")])
    func limitOfLead(reached: Double, outcome: Verdict.Outcome, limit: String) throws {
        let report = Report.of(
            "pps", .packetsPerSecond,
            [
                ("in", [(.iptablesNFT, [1]), (.fastnatTC, [8]), (.bareTC, [4])]),
                ("out", [(.iptablesNFT, [1]), (.fastnatTC, [4]), (.bareTC, [reached])]),
            ])
        let target = Target(.pps, "out", metric: "m", .fastnatTC, .lead(0.9, .pps, "in", metric: "m"))
        let verdict = try #require(target.verdict(in: report))
        #expect(verdict.text == "0.50" && verdict.limitText == limit && verdict.outcome == outcome)
    }

    @Test("A figure that is missing is not measured, and says why; one that is noisy says so")
    func uncertain() throws {
        let target = Target(.pps, "s", metric: "m", .fastnatXDP, .times(5.5, .iptablesNFT))
        let missing = Report.of("pps", .packetsPerSecond, [("s", [(.iptablesNFT, [2]), (.fastnatXDP, [])])])
        #expect(try #require(target.verdict(in: missing)).outcome == .unmeasured)
        #expect(try #require(target.verdict(in: missing)).text == "it broke")
        let noisy = Report.of(
            "pps", .packetsPerSecond, [("s", [(.iptablesNFT, [1, 2, 3]), (.fastnatXDP, [20, 20, 20])])])
        #expect(try #require(target.verdict(in: noisy)).isNoisy)
        #expect(target.verdict(in: Report.of("cps", .packetsPerSecond, [("s", [])])) == nil)
    }

    @Test("Each target is of figures that a whole run has, on paths that it measures")
    func figures() {
        let options = BenchOptions(binary: "fastnat", version: "0")
        for target in Target.all {
            var figures = target.series.map { (target.workload, $0, target.metric) }
            var paths = [target.path]
            switch target.bound {
            case .lead(_, let workload, let name, let metric): figures.append((workload, name, metric))
            case .times(_, let path): paths.append(path)
            case .best(_, let others): paths += others
            case .value: break
            }
            for (kind, name, metric) in figures {
                let measurements = kind.workload.groups(options).flatMap(\.measurements)
                let found = measurements.contains { $0.name == name && $0.metrics.contains { $0.name == metric } }
                #expect(found, "\(kind), \(name): \(metric)")
                #expect(paths.allSatisfy(kind.workload.concerns), "\(target)")
            }
        }
    }

    @Test("Tables, page and file have the verdicts")
    func output() throws {
        let report = Report.sample()
        #expect(report.verdicts.map(\.outcome) == [.missed] + [Verdict.Outcome](repeating: .unmeasured, count: 4))
        let text = ReportTables(report).text()
        #expect(text.contains("targets  0 of 5 held, 1 missed, 4 not measured"))
        #expect(text.contains("  fastnat-xdp  ≥ 5.5 × iptables-nft   4.00      –      missed"))
        #expect(
            ReportTables(report).markdown().contains("| `fastnat-xdp` | ≥ 5.5 × iptables-nft | 4.00 | – | **missed** |")
        )
        #expect(ReportPage(report).html().contains("<tr class=\"missed\"><td>pps, direct, 1 flow: packets</td>"))
        #expect(try report.json().contains("\"targets\" : ["))
    }
}
