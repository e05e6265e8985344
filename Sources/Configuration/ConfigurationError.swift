/// Everything that is wrong with a configuration file, in the order of its lines.
public struct ConfigurationError: Error, Hashable, Sendable {
    /// One thing that is wrong, and where.
    public struct Problem: Hashable, Sendable {
        /// Where it begins; nil when it is the file as a whole.
        public let position: Position?
        /// What is wrong, and what to write instead.
        public let text: String

        init(_ position: Position?, _ text: String) {
            self.position = position
            self.text = text
        }
    }

    /// The name of the file.
    public let file: String
    /// The problems, at least one.
    public let problems: [Problem]

    init(_ file: String, _ problems: [Problem]) {
        self.file = file
        self.problems = problems.sorted { ($0.position ?? .start) < ($1.position ?? .start) }
    }
}

extension ConfigurationError: CustomStringConvertible {
    /// A line for each of the first problems: `fastnat.yaml:7:11: …`.
    public var description: String {
        let most = 10
        let shown = problems.prefix(most).map { problem in
            "\(file):\(problem.position.map { "\($0):" } ?? "") \(problem.text)"
        }
        let rest = problems.count > most ? ["and \(problems.count - most) more"] : []
        return (shown + rest).joined(separator: "\n")
    }
}

/// A place in a text, the first character being 1:1. Columns are Unicode scalars.
public struct Position: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The line, from 1.
    public let line: Int
    /// The column, from 1.
    public let column: Int

    static let start = Position(line: 1, column: 1)

    /// `7:11`
    public var description: String { "\(line):\(column)" }

    /// By line, then by column.
    public static func < (left: Position, right: Position) -> Bool {
        (left.line, left.column) < (right.line, right.column)
    }
}
