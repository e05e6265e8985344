/// The figures as tables of text, a line for each path.
public struct ReportTables {
    private let report: Report

    /// Shows this report.
    public init(_ report: Report) { self.report = report }

    /// For a terminal: as many columns side by side as fit.
    public func text(width: Int = 130) -> String {
        var parts = [heading]
        for workload in report.workloads {
            parts.append("\(workload.name)  \(workload.title)")
            parts += tables(of: workload, width: width).map { $0.text() }
            parts += missing(in: workload).map { "  \($0)" }
        }
        let verdicts = report.verdicts
        if !verdicts.isEmpty {
            parts += ["targets  \(verdicts.summary)", TargetTable(report).text() + "  " + TargetTable.legend]
        }
        let builds = BuildTable(report)
        if !builds.rows.isEmpty { parts += ["builds", builds.text() + "  " + BuildTable.legend] }
        parts.append(Self.legend)
        return parts.joined(separator: "\n") + "\n"
    }

    /// For a document.
    public func markdown() -> String {
        let verdicts = report.verdicts
        var parts = [
            "### Targets", "", "\(verdicts.summary).", "", TargetTable(report).markdown(), "", TargetTable.legend, "",
        ]
        for workload in report.workloads {
            parts += ["### \(workload.name)", "", "\(workload.title).", ""]
            for table in tables(of: workload, width: 160) { parts += [table.markdown(), ""] }
            let missing = missing(in: workload)
            if !missing.isEmpty { parts += missing.map { "- \($0)" } + [""] }
        }
        return parts.joined(separator: "\n")
    }

    /// What the marks mean.
    public static let legend =
        "×: how many times better than \(PathKind.reference.rawValue). ~: may be off by more than 10 % "
        + "(95 %, by the distance of the quartiles). –: no figure."

    private var heading: String {
        let machine = report.machine
        return "fastnat \(machine.fastnat) on Linux \(machine.kernel), \(machine.cpus) CPUs (\(machine.processor)); "
            + "medians of the turns of \(report.settings.rounds) rounds, \(fixed(report.settings.sampleSeconds, 2)) s each; "
            + "\(Progress.clock(report.seconds)) min"
    }

    /// Tables of as many columns as fit.
    private func tables(of workload: WorkloadReport, width: Int) -> [FigureTable] {
        var tables: [FigureTable] = []
        for series in workload.series {
            let column = column(series, of: workload)
            if var last = tables.last, last.width + column.width + 2 <= width {
                last.columns.append(column)
                tables[tables.count - 1] = last
            } else {
                tables.append(FigureTable(paths: report.paths(of: workload), columns: [column]))
            }
        }
        return tables
    }

    private func column(_ series: Series, of workload: WorkloadReport) -> FigureTable.Column {
        FigureTable.Column(
            heading: series.name.split(separator: ",").map(\.trimmed) + ["\(series.metric), \(series.unit.rawValue)"],
            cells: report.paths(of: workload).map { path in
                guard let cell = series.cell(path), let median = cell.median else { return "–" }
                let ratio = series.ratio(path).map { "  \(fixed($0, 2))×" } ?? ""
                return (cell.isNoisy ? "~" : "") + series.unit.format(median) + ratio
            })
    }

    /// Why there is no figure: each reason once, and where, unless it is everywhere.
    private func missing(in workload: WorkloadReport) -> [String] {
        report.paths.map(\.name).flatMap { path in
            let missing = workload.series.filter { $0.cell(path)?.missing != nil }
            let byReason = Dictionary(grouping: missing) { $0.cell(path)?.missing ?? "" }
            return byReason.sorted { $0.key < $1.key }.map { reason, series in
                let places = places(series, in: workload)
                return "\(path)\(places.isEmpty ? "" : " (\(places.joined(separator: "; ")))"): \(reason)"
            }
        }
    }

    /// Names of some of a workload's figures, as briefly as can be; nothing for all of them.
    private func places(_ some: [Series], in workload: WorkloadReport) -> [String] {
        if some.count == workload.series.count { return [] }
        let all = Dictionary(grouping: workload.series, by: \.metric)
        if all.count == 1 { return some.map(\.name) }
        var names: [String] = []
        for series in some {
            let isWhole = some.count { $0.metric == series.metric } == all[series.metric]?.count
            let name = isWhole ? series.metric : "\(series.name), \(series.metric)"
            if !names.contains(name) { names.append(name) }
        }
        return names
    }
}

/// Columns of figures, aligned to the right, beside the names of the paths.
struct FigureTable {
    struct Column {
        var heading: [String]
        var cells: [String]

        var width: Int { (heading + cells).map(\.count).max() ?? 0 }
    }

    var paths: [String]
    var columns: [Column]

    var width: Int { columns.reduce(pathWidth) { $0 + 2 + $1.width } }

    private var pathWidth: Int { paths.map(\.count).max() ?? 0 }

    func text() -> String {
        let height = columns.map(\.heading.count).max() ?? 0
        var lines: [String] = []
        for row in 0..<height {
            // Short headings stand at the bottom.
            lines.append(
                line(
                    "",
                    columns.map { column in
                        let index = row - (height - column.heading.count)
                        return index < 0 ? "" : column.heading[index]
                    }))
        }
        for (row, path) in paths.enumerated() { lines.append(line(path, columns.map { $0.cells[row] })) }
        return lines.joined(separator: "\n") + "\n"
    }

    private func line(_ path: String, _ cells: [String]) -> String {
        let name = path + String(repeating: " ", count: pathWidth - path.count)
        return zip(cells, columns).reduce(name) { line, item in
            line + "  " + String(repeating: " ", count: item.1.width - item.0.count) + item.0
        }
    }

    func markdown() -> String {
        let headings = columns.map { $0.heading.joined(separator: "<br>") }
        var lines = ["| | \(headings.joined(separator: " | ")) |", "|---|" + columns.map { _ in "---:|" }.joined()]
        for (row, path) in paths.enumerated() {
            lines.append("| `\(path)` | \(columns.map { $0.cells[row] }.joined(separator: " | ")) |")
        }
        return lines.joined(separator: "\n")
    }
}
