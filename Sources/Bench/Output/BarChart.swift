/// Horizontal bars, one for each path, as an SVG image whose colours come from the page.
struct BarChart {
    /// A bar, or why there is none.
    struct Bar {
        var label: String
        /// Which colour: a class of the page's style sheet.
        var kind: String
        /// nil: none.
        var value: Double?
        /// Ends of the line across the bar's end: the quartiles.
        var low = 0.0
        var high = 0.0
        /// Every sample, as a dot.
        var samples: [Double] = []
        /// Beside the bar.
        var text: String
    }

    var title: String
    var bars: [Bar]

    private static let labelWidth = 118.0
    private static let textWidth = 128.0
    private static let width = 560.0
    private static let rowHeight = 24.0
    private static let barHeight = 14.0

    func svg() -> String {
        let height = Double(bars.count) * Self.rowHeight + 4
        let rows = bars.enumerated().map { row($1, top: Double($0) * Self.rowHeight) }
        return """
            <svg viewBox="0 0 \(number(Self.width)) \(number(height))" role="img" aria-label="\(escaped(title))">
            \(rows.joined(separator: "\n"))
            </svg>
            """
    }

    /// The longest bar or line fills what labels leave.
    private var scale: Double {
        let longest = bars.compactMap { bar in bar.value.map { max($0, bar.samples.max() ?? 0) } }.max() ?? 0
        return longest > 0 ? (Self.width - Self.labelWidth - Self.textWidth) / longest : 0
    }

    private func row(_ bar: Bar, top: Double) -> String {
        let middle = top + Self.rowHeight / 2
        let label = text(bar.label, x: Self.labelWidth - 8, middle, "label", anchor: "end")
        guard let value = bar.value else {
            return label + text(bar.text, x: Self.labelWidth, middle, "none", anchor: "start")
        }
        let (length, low, high) = (max(0, value * scale), bar.low * scale, bar.high * scale)
        let end = Self.labelWidth + max(length, (bar.samples.max() ?? 0) * scale) + 8
        let dots = bar.samples.map { sample in
            "<circle class=\"sample\" cx=\"\(number(Self.labelWidth + sample * scale))\" cy=\"\(number(middle))\" r=\"2\"/>"
        }
        let whisker = "M\(number(Self.labelWidth + low)) \(number(middle))H\(number(Self.labelWidth + high))"
        return label
            + """
            <rect class="\(bar.kind)" x="\(number(Self.labelWidth))" y="\(number(middle - Self.barHeight / 2))" \
            width="\(number(max(1, length)))" height="\(number(Self.barHeight))" rx="2"/>\
            <path class="spread" d="\(whisker)"/>\(dots.joined())
            """ + text(bar.text, x: end, middle, "value", anchor: "start")
    }

    private func text(_ content: String, x: Double, _ y: Double, _ kind: String, anchor: String) -> String {
        """
        <text class="\(kind)" x="\(number(x))" y="\(number(y))" dy=".35em" text-anchor="\(anchor)">\(escaped(content))</text>
        """
    }

    private func number(_ value: Double) -> String { fixed(value, 1) }
}

/// Text that HTML shows as it is.
func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        .replacing("\"", with: "&quot;")
}
