internal import FoundationEssentials
internal import Glibc

extension Report {
    /// As JSON, keys sorted, so that two runs can be compared by eye.
    public func json() throws(BenchError) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        var report = self
        report.targets = verdicts
        do { return String(decoding: try encoder.encode(report), as: UTF8.self) + "\n" } catch {
            throw .file("cannot encode the results: \(error)")
        }
    }

    /// Writes the JSON file.
    public func write(to path: String) throws(BenchError) {
        try Self.write(try json(), to: path)
    }

    /// Writes a file of results.
    public static func write(_ text: String, to path: String) throws(BenchError) {
        if !writeTextFile(path, text) { throw .file("cannot write \(path): \(errnoText())") }
    }

    /// Reads what `write` wrote.
    public init(readingFrom path: String) throws(BenchError) {
        guard let text = textFile(path) else { throw .file("cannot read \(path): \(errnoText())") }
        let report: Report
        do { report = try JSONDecoder().decode(Report.self, from: Data(text.utf8)) } catch {
            throw .file("\(path) is no file of results: \(error)")
        }
        guard report.schema == Self.currentSchema else {
            throw .file("\(path) has layout \(report.schema), not \(Self.currentSchema): measure again")
        }
        self = report
        targets = nil
    }
}
