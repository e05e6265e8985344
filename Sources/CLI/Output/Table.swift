internal import FastNAT

/// Columns of text under headings, each as wide as its widest cell.
struct Table {
    private let headings: [String]
    private var rows: [[String]] = []

    init(_ headings: [String]) {
        self.headings = headings
    }

    init(_ headings: String...) {
        self.init(headings)
    }

    mutating func add(_ cells: [String]) {
        rows.append(cells)
    }

    mutating func add(_ cells: String...) {
        add(cells)
    }

    func render() -> String {
        let all = [headings] + rows
        let widths = headings.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            let cells = zip(row, widths).map { cell, width in
                cell + String(repeating: " ", count: width - cell.count)
            }
            return cells.joined(separator: "  ").trimmingSuffix(while: \.isWhitespace)
        }.joined(separator: "\n")
    }
}

extension FlowLimits {
    /// A column of a table: `flows=100,rate=10/s`.
    var cell: String {
        let limits = FlowLimit.allCases.compactMap { limit in
            text(limit).map { "\(limit.rawValue.dropFirst("limit-".count))=\($0)" }
        }
        return limits.isEmpty ? "none" : limits.joined(separator: ",")
    }
}

extension String {
    func trimmingSuffix(while predicate: (Character) -> Bool) -> String {
        guard let last = lastIndex(where: { !predicate($0) }) else { return "" }
        return String(self[...last])
    }
}
