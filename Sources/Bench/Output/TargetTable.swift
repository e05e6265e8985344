/// Targets, what was measured, and whether that is enough.
struct TargetTable {
    private let verdicts: [Verdict]

    init(_ verdicts: [Verdict]) { self.verdicts = verdicts }

    /// What the last two columns mean.
    static let legend =
        "limit: the same of programs at the same hook that only look flows up, or where that is not measured, only redirect; "
        + "beyond the limit: they miss the target, too."

    static let headings = ["figure", "path", "target", "measured", "limit", ""]

    static func cells(_ verdict: Verdict) -> [String] {
        let measured = (verdict.isNoisy ? "~" : "") + verdict.text
        return [verdict.figure, verdict.path, verdict.target, measured, verdict.limitText, verdict.outcome.rawValue]
    }

    func text() -> String {
        let rows = [Self.headings] + verdicts.map(Self.cells)
        let widths = Self.headings.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        let lines = rows.map { row in
            zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  ")
        }
        return lines.map { "  \($0)".trimmedAtEnd }.joined(separator: "\n") + "\n"
    }

    func markdown() -> String {
        let rows = verdicts.map { verdict in
            var cells = Self.cells(verdict)
            cells[1] = "`\(cells[1])`"
            if verdict.outcome == .missed { cells[5] = "**\(cells[5])**" }
            return "| \(cells.joined(separator: " | ")) |"
        }
        let heading = ["| \(Self.headings.joined(separator: " | ")) |", "|---|---|---|---|---|---|"]
        return (heading + rows).joined(separator: "\n")
    }
}

extension StringProtocol {
    /// Without white space at its end.
    var trimmedAtEnd: String {
        guard let last = lastIndex(where: { !$0.isWhitespace }) else { return "" }
        return String(self[...last])
    }
}
