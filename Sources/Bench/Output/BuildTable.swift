/// What this build does against another one that was measured beside it (`--against`).
struct BuildTable {
    /// A line for each figure and mode that both builds have. Ratios are this build's: above 1 it is the better one.
    let rows: [[String]]

    private static let pairs: [(own: PathKind, other: PathKind)] = [(.fastnatTC, .otherTC), (.fastnatXDP, .otherXDP)]

    init(_ report: Report) {
        rows = report.workloads.flatMap { workload in
            workload.series.flatMap { series in
                Self.pairs.compactMap { own, other in
                    guard let ratio = series.comparison(own.rawValue, to: other.rawValue) else { return nil }
                    let turns = series.cell(own.rawValue)?.samples.count ?? 0
                    return [
                        "\(workload.name), \(series.name): \(series.metric)", own.rawValue,
                        "\(fixed(ratio.median, 3)) × \(other.rawValue)",
                        "\(fixed(ratio.spread, 3)) apart in \(turns) turns",
                    ]
                }
            }
        }
    }

    func text() -> String { alignedRows(rows) }

    /// What stands in the rows.
    static let legend =
        "the median of the turns' ratios, and how far apart their quartiles are as a part of it; above 1 this build is the better one."
}
