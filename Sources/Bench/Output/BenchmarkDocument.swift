/// What a run writes of a document, such as docs/benchmarks.md or README.md: between marks, everything else is left as it is.
public struct BenchmarkDocument {
    /// A part between a pair of marks.
    private struct Part: Sendable {
        let begin: String
        let end: String
        let text: @Sendable (Report) -> String

        init(_ name: String, _ text: @escaping @Sendable (Report) -> String) {
            begin = "<!-- \(name): written by make bench-docs -->"
            end = "<!-- end of \(name) -->"
            self.text = text
        }
    }

    private static let parts = [Part("figures", figures), Part("summary") { "\n\(SummaryTable($0).markdown())\n\n" }]

    /// Puts the parts of a report that the document at `path` has marks for into it.
    public static func update(_ path: String, with report: Report) throws(BenchError) {
        guard let text = textFile(path) else { throw .file("cannot read \(path): \(errnoText())") }
        try Report.write(try updated(text, with: report, name: path), to: path)
    }

    static func updated(_ text: String, with report: Report, name: String) throws(BenchError) -> String {
        let present = parts.filter { text.contains($0.begin) }
        if present.isEmpty {
            let marks = parts.map { "'\($0.begin)'" }.joined(separator: " or ")
            throw .file("\(name) has no line \(marks), after which figures would go")
        }
        var text = text
        for part in present {
            guard let first = text.firstRange(of: part.begin), let last = text.firstRange(of: part.end),
                first.upperBound <= last.lowerBound
            else { throw .file("\(name) lacks the line '\(part.end)' after '\(part.begin)'") }
            text = text[..<first.upperBound] + "\n" + part.text(report) + text[last.lowerBound...]
        }
        return text
    }

    private static func figures(of report: Report) -> String {
        let (machine, settings) = (report.machine, report.settings)
        let tools = machine.tools.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        return """

            fastnat \(machine.fastnat), Linux \(machine.kernel), \(machine.system), \(machine.cpus) × \(machine.processor), \
            \(fixed(machine.memory, 0)) GiB, \(machine.date). \(tools). Load when it began: \(fixed(machine.load, 2)).
            Distances: \(machine.distances ?? "not measured").
            Offloads of a veth: \(machine.offloads.joined(separator: ", ")).
            Medians of the turns of \(settings.rounds) rounds, \(fixed(settings.sampleSeconds, 2)) s a round. \(ReportTables.legend)
            \(runs(of: report))

            \(ReportTables(report).markdown())

            """
    }

    /// How long it took; of several runs shown as one, each of them.
    private static func runs(of report: Report) -> String {
        guard let runs = report.runs else { return "It took \(fixed(report.seconds, 0)) seconds." }
        let list = runs.map { run in
            let distances = [run.readNanoseconds, run.lineNanoseconds].map { $0.map { "\(fixed($0, 0)) ns" } ?? "–" }
            return "\(run.date) (\(fixed(run.seconds, 0)) seconds; distances \(distances.joined(separator: ", ")))"
        }
        return
            "Samples are those of \(runs.count) runs: \(list.joined(separator: "; ")). \"Held in\" is what each run alone shows."
    }
}
