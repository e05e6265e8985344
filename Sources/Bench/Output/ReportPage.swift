/// One HTML page with everything in it: charts, figures, machine, method. It loads nothing.
public struct ReportPage {
    private let report: Report

    /// Shows this report.
    public init(_ report: Report) { self.report = report }

    /// The page.
    public func html() -> String {
        """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <link rel="icon" href="data:,">
        <title>fastnat benchmark</title>
        <style>
        \(Self.style)
        </style>
        </head>
        <body>
        <header>
        <h1>fastnat benchmark</h1>
        <p>\(escaped(summary))</p>
        \(Self.legend)
        \(navigation)
        </header>
        <main>
        \(targets)
        \(report.workloads.map(section).joined(separator: "\n"))
        \(conditions)
        </main>
        </body>
        </html>

        """
    }

    private var summary: String {
        let machine = report.machine
        return
            "Linux \(machine.kernel), \(machine.cpus) CPUs (\(machine.processor)), \(machine.system), \(machine.date). "
            + "Each bar is the median of all turns of \(report.settings.rounds) interleaved rounds, more or fewer, each dot one of them, the line "
            + "from quartile to quartile; × is how many times better than \(PathKind.reference.rawValue) in the same turns, ~ marks what may be off by "
            + "more than 10 %. A path whose packets did not all arrive with the right addresses and checksums has no figure, but the reason."
            + (report.settings.rounds < 3
                ? " With so few rounds the spread is not known: this is a first look, no proof." : "")
    }

    private var navigation: String {
        let links = report.workloads.map { "<a href=\"#\($0.name)\">\($0.name)</a>" }
        return
            "<nav><a href=\"#targets\">targets</a> \(links.joined(separator: " ")) <a href=\"#conditions\">conditions</a></nav>"
    }

    /// What was to be reached, and what was.
    private var targets: String {
        let verdicts = report.verdicts
        let table = TargetTable(report)
        let rows = zip(verdicts, table.rows).map { verdict, row in
            let cells = row.map { "<td>\(escaped($0))</td>" }.joined()
            return "<tr class=\"\(verdict.outcome)\">\(cells)</tr>"
        }
        let headings = table.headings.map { "<th>\($0)</th>" }.joined()
        return """
            <section id="targets">
            <h2>targets</h2>
            <p>\(escaped(verdicts.summary)). Ratios within this run; of several figures, the worst. \(escaped(TargetTable.legend))</p>
            <div class="wide"><table><thead><tr>\(headings)</tr></thead>
            <tbody>\(rows.joined(separator: "\n"))</tbody></table></div>
            </section>
            """
    }

    private func section(_ workload: WorkloadReport) -> String {
        """
        <section id="\(workload.name)">
        <h2>\(workload.name)</h2>
        <p>\(escaped(workload.title)).</p>
        <div class="charts">
        \(workload.series.map(figure).joined(separator: "\n"))
        </div>
        \(samples(workload))
        </section>
        """
    }

    private func figure(_ series: Series) -> String {
        let better = series.unit.isHigherBetter ? "more is better" : "less is better"
        let caption = "\(series.name): \(series.metric)"
        return """
            <figure>
            <figcaption>\(escaped(caption))<small>\(escaped(series.unit.rawValue)), \(better)</small></figcaption>
            \(BarChart(title: caption, bars: series.cells.map { bar($0.path, series) }).svg())
            </figure>
            """
    }

    private func bar(_ path: String, _ series: Series) -> BarChart.Bar {
        let kind = PathKind(rawValue: path)
        let style =
            kind == .reference
            ? "reference" : kind?.isLimit == true ? "limit" : path.hasPrefix("fastnat") ? "ours" : "other"
        guard let cell = series.cell(path), let median = cell.median else {
            let reason = series.cell(path)?.missing ?? "not measured"
            return BarChart.Bar(label: path, kind: style, value: nil, text: Self.shortened(reason, 66))
        }
        let sorted = cell.samples.sorted()
        let ratio = series.ratio(path).map { "  \(fixed($0, 2))×" } ?? ""
        return BarChart.Bar(
            label: path, kind: style, value: median,
            low: Statistics.quantile(0.25, of: sorted), high: Statistics.quantile(0.75, of: sorted),
            samples: sorted, text: (cell.isNoisy ? "~" : "") + series.unit.format(median) + ratio)
    }

    private static func shortened(_ text: String, _ length: Int) -> String {
        text.count <= length ? text : text.prefix(length - 1) + "…"
    }

    /// Every sample, and why figures are missing, folded away.
    private func samples(_ workload: WorkloadReport) -> String {
        let rows = workload.series.flatMap { series in
            series.cells.map { cell in
                let values = cell.missing ?? cell.samples.map(series.unit.format).joined(separator: " · ")
                let columns = ["\(series.name): \(series.metric), \(series.unit.rawValue)", cell.path, values]
                return "<tr>\(columns.map { "<td>\(escaped($0))</td>" }.joined())</tr>"
            }
        }
        return """
            <details><summary>every sample, and why figures are missing</summary>
            <table><thead><tr><th>figure</th><th>path</th><th>samples</th></tr></thead>
            <tbody>\(rows.joined(separator: "\n"))</tbody></table></details>
            """
    }

    private var conditions: String {
        let machine = report.machine
        let facts: [(String, String)] =
            [
                ("kernel", machine.kernel), ("system", machine.system),
                ("processor", "\(machine.cpus) × \(machine.processor), \(fixed(machine.memory, 0)) GiB"),
                ("distances", machine.distances ?? "not measured"),
                ("load when it began", fixed(machine.load, 2)), ("fastnat", machine.fastnat),
                ("offloads of a veth", machine.offloads.joined(separator: ", ")),
                ("samples", "\(report.settings.rounds) rounds of \(fixed(report.settings.sampleSeconds, 2)) s"),
                ("took", "\(Progress.clock(report.seconds)) min"),
            ] + machine.tools.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        return """
            <section id="conditions">
            <h2>conditions</h2>
            <table><tbody>\(facts.map(row).joined(separator: "\n"))</tbody></table>
            <h3>paths</h3>
            <table><tbody>\(report.paths.map { row($0.name, $0.text) }.joined(separator: "\n"))</tbody></table>
            <h3>method and limits</h3>
            <ul>\(Self.method.map { "<li>\(escaped($0))</li>" }.joined(separator: "\n"))</ul>
            </section>
            """
    }

    private func row(_ name: String, _ value: String) -> String {
        "<tr><th scope=\"row\">\(escaped(name))</th><td>\(escaped(value))</td></tr>"
    }
}
