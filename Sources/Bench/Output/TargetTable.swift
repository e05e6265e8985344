/// Targets, what was measured, and whether that is enough.
struct TargetTable {
    /// A line for each target.
    let rows: [[String]]
    let headings: [String]

    /// The targets of a report; of several runs, also how many of them held each.
    init(_ report: Report) {
        let runs = report.runs
        headings = ["figure", "path", "target", "measured", "limit", ""] + (runs == nil ? [] : ["runs"])
        rows = report.verdicts.enumerated().map { index, verdict in
            let measured = (verdict.isNoisy ? "~" : "") + verdict.text
            let cells = [
                verdict.figure, verdict.path, verdict.target, measured, verdict.limitText, verdict.outcome.rawValue,
            ]
            guard let runs else { return cells }
            let held = runs.count { index < $0.outcomes.count && $0.outcomes[index] == .held }
            return cells + ["held in \(held) of \(runs.count)"]
        }
    }

    /// What the limit and the outcome mean.
    static let legend =
        "limit: the same of a bare NAT at the same hook, or where that is not measured, of programs that only redirect; "
        + "beyond the limit: they miss the target, too."

    func text() -> String { alignedRows([headings] + rows) }

    func markdown() -> String {
        let lines = rows.map { row in
            var cells = row
            cells[1] = "`\(cells[1])`"
            if cells[5] == Verdict.Outcome.missed.rawValue { cells[5] = "**\(cells[5])**" }
            return "| \(cells.joined(separator: " | ")) |"
        }
        let heading = ["| \(headings.joined(separator: " | ")) |", "|" + headings.map { _ in "---|" }.joined()]
        return (heading + lines).joined(separator: "\n")
    }
}

/// Lines of text with columns one below the other, indented. Rows have as many cells each.
func alignedRows(_ rows: [[String]]) -> String {
    let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    let lines = rows.map { row in
        zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  ")
    }
    return lines.map { "  \($0)".trimmedAtEnd }.joined(separator: "\n") + "\n"
}

extension StringProtocol {
    /// Without white space at its end.
    var trimmedAtEnd: String {
        guard let last = lastIndex(where: { !$0.isWhitespace }) else { return "" }
        return String(self[...last])
    }
}
