internal import Addresses

/// Everything that is wrong with a mapping file, in the order of its lines.
public struct MappingFileError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One line's problem.
    public struct Problem: Hashable, Sendable, CustomStringConvertible {
        /// The line, the first being 1.
        public let line: Int
        /// The earlier line that it collides with, for an overlap.
        public let otherLine: Int?
        /// What is wrong.
        public let error: MappingError

        /// `line 7: …`, an overlap with both lines.
        public var description: String {
            guard let otherLine else { return "line \(line): \(error)" }
            return "line \(line), with line \(otherLine): \(error)"
        }
    }

    /// The problems, at least one.
    public let problems: [Problem]

    /// The first problems, a line for each.
    public var description: String {
        let most = 10
        let shown = problems.prefix(most).map(\.description)
        let rest = problems.count > most ? ["and \(problems.count - most) more"] : []
        return (shown + rest).joined(separator: "\n")
    }
}

/// The text format of many mappings: a line for each, `LISTEN TARGET [allow=CIDR[,CIDR…]] [limit-flows=N …]`; a `#` begins a
/// comment, blank lines do not matter.
public enum MappingFile {
    /// Parses the whole text. The order of the mappings is the order of their lines.
    ///
    /// - Throws: all problems of all lines, overlaps included.
    public static func parse(_ text: String) throws(MappingFileError) -> [PortMapping] {
        try parse(text.utf8.span)
    }

    /// Parses the UTF-8 text of a whole file like `parse(_:)` does the string, without a copy.
    public static func parse(_ text: Span<UInt8>) throws(MappingFileError) -> [PortMapping] {
        var entries: [Entry] = []
        var problems: [MappingFileError.Problem] = []
        var line = 0
        var start = 0
        while start < text.count {
            line += 1
            let end = text.firstIndex(of: UInt8(ascii: "\n"), from: start) ?? text.count
            let content = text.extracting(content(of: text, start..<end))
            start = end + 1
            guard !content.isEmpty else { continue }
            do throws(MappingError) {
                entries.append(Entry(line: line, mapping: try PortMapping(parsing: content)))
            } catch {
                problems.append(.init(line: line, otherLine: nil, error: error))
            }
        }
        problems += overlaps(among: entries)
        guard problems.isEmpty else { throw MappingFileError(problems: problems.sorted { $0.line < $1.line }) }
        return entries.map(\.mapping)
    }

    private struct Entry {
        let line: Int
        let mapping: PortMapping
    }

    /// `line` without its comment and the blanks around it, a carriage return included.
    private static func content(of text: Span<UInt8>, _ line: Range<Int>) -> Range<Int> {
        func isBlank(_ index: Int) -> Bool {
            text[index] == UInt8(ascii: " ") || text[index] == UInt8(ascii: "\t") || text[index] == UInt8(ascii: "\r")
        }
        var first = line.lowerBound
        var end = line.lowerBound
        while end < line.upperBound, text[end] != UInt8(ascii: "#") { end += 1 }
        while first < end, isBlank(first) { first += 1 }
        while end > first, isBlank(end - 1) { end -= 1 }
        return first..<end
    }

    /// The mappings that claim a port which an earlier line has. Sorted by key and first port, a mapping can only
    /// collide with the one that reaches furthest before it: n log n, not n².
    private static func overlaps(among entries: [Entry]) -> [MappingFileError.Problem] {
        var problems: [MappingFileError.Problem] = []
        var furthest: Entry?
        for entry in entries.sorted(by: { precedes($0.mapping, $1.mapping) }) {
            if let reached = furthest, entry.mapping.overlaps(reached.mapping) {
                let (earlier, later) = reached.line < entry.line ? (reached, entry) : (entry, reached)
                problems.append(
                    .init(
                        line: later.line, otherLine: earlier.line,
                        error: .overlap(later.mapping, with: earlier.mapping)))
                if entry.mapping.listen.ports.last <= reached.mapping.listen.ports.last { continue }
            }
            furthest = entry
        }
        return problems
    }

    /// The order by key, so that mappings which can overlap are neighbours, and by first port within a key.
    private static func precedes(_ left: PortMapping, _ right: PortMapping) -> Bool {
        if left.listen.transport != right.listen.transport { return left.listen.transport < right.listen.transport }
        if left.listen.address != right.listen.address {
            return (left.listen.address ?? any(left.family)) < (right.listen.address ?? any(right.family))
        }
        if left.family != right.family { return left.family.rawValue < right.family.rawValue }
        return left.listen.ports.first < right.listen.ports.first
    }

    private static func any(_ family: IPFamily) -> IPAddress { family == .ipv4 ? .anyIPv4 : .anyIPv6 }
}
