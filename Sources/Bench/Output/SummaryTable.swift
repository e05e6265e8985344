/// What a run found in a dozen lines, for who wants to know whether to read on.
struct SummaryTable {
    /// A figure that is in it.
    private struct Line {
        var label: String
        var workload: String
        var series: String
        var metric: String
    }

    private static let lines = [
        Line(label: "packets of one flow", workload: "pps", series: "direct, 1 flow", metric: "packets"),
        Line(label: "the same, container on a bridge", workload: "pps", series: "bridge, 1 flow", metric: "packets"),
        Line(
            label: "packets of 64 k flows, at random", workload: "pps", series: "direct, 64 k flows", metric: "packets"),
        Line(label: "new UDP flows", workload: "newflow", series: "direct", metric: "new flows"),
        Line(label: "the same, 1,000 published ports", workload: "rules", series: "1000 ports", metric: "new flows"),
        Line(label: "TCP connections", workload: "cps", series: "direct", metric: "connections"),
        Line(
            label: "the same, 10,000 published ports", workload: "rules", series: "10000 ports", metric: "connections"),
        Line(label: "throughput, 1 TCP stream up", workload: "bulk", series: "1 stream up", metric: "throughput"),
        Line(label: "response time over TCP, p50", workload: "rr", series: "direct, TCP", metric: "p50"),
        Line(label: "memory of a flow", workload: "flows", series: "memory", metric: "a flow"),
        Line(
            label: "adding a port to 10,000", workload: "rules", series: "10000 ports", metric: "adding one, command"),
    ]

    private static let paths = [PathKind.nftables, .dockerProxy, .fastnatTC, .fastnatXDP].map(\.rawValue)

    /// The reference's figure, and how many times better each of the other paths is; a line for each figure that was measured.
    let rows: [[String]]

    init(_ report: Report) {
        rows = Self.lines.compactMap { line in
            let workload = report.workloads.first { $0.name == line.workload }
            let series = workload?.series.first { $0.name == line.series && $0.metric == line.metric }
            guard let series, let base = series.cell(PathKind.reference.rawValue)?.median else { return nil }
            return [line.label, "\(series.unit.format(base)) \(series.unit.rawValue)"]
                + Self.paths.map { Self.text(series.comparison($0)) }
        }
    }

    private static func text(_ ratio: Statistics?) -> String {
        ratio.map { "\($0.isNoisy ? "~" : "")\(fixed($0.median, 2))×" } ?? "–"
    }

    func markdown() -> String {
        let paths = ([PathKind.reference.rawValue] + Self.paths).map { "`\($0)`" }
        let heading = ["| | \(paths.joined(separator: " | ")) |", "|---|" + paths.map { _ in "---:|" }.joined()]
        return (heading + rows.map { "| \($0.joined(separator: " | ")) |" }).joined(separator: "\n")
    }
}
