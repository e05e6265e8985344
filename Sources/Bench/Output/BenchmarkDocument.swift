/// The part of docs/benchmarks.md that a run writes: between two marks, everything else is left as it is.
public struct BenchmarkDocument {
    private static let begin = "<!-- figures: written by make bench-docs -->"
    private static let end = "<!-- end of figures -->"

    /// Puts the figures of a report into the document at `path`.
    public static func update(_ path: String, with report: Report) throws(BenchError) {
        guard let text = textFile(path) else { throw .file("cannot read \(path): \(errnoText())") }
        try Report.write(try updated(text, with: report, name: path), to: path)
    }

    static func updated(_ text: String, with report: Report, name: String) throws(BenchError) -> String {
        guard let first = text.firstRange(of: begin), let last = text.firstRange(of: end),
            first.upperBound <= last.lowerBound
        else { throw .file("\(name) lacks the lines '\(begin)' and '\(end)'") }
        return text[..<first.upperBound] + "\n" + figures(of: report) + text[last.lowerBound...]
    }

    private static func figures(of report: Report) -> String {
        let (machine, settings) = (report.machine, report.settings)
        let tools = machine.tools.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        return """

            fastnat \(machine.fastnat), Linux \(machine.kernel), \(machine.system), \(machine.cpus) × \(machine.processor), \
            \(fixed(machine.memory, 0)) GiB, \(machine.date). \(tools). Load when it began: \(fixed(machine.load, 2)).
            Distances: \(machine.distances ?? "not measured").
            Offloads of a veth: \(machine.offloads.joined(separator: ", ")).
            Medians of \(settings.rounds) rounds, \(fixed(settings.sampleSeconds, 2)) s a sample. \(ReportTables.legend)
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
