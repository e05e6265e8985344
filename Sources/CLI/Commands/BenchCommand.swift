public import ArgumentParser
public import Bench
internal import Glibc

extension PathKind: ExpressibleByArgument {}
extension WorkloadKind: ExpressibleByArgument {}

/// `fastnat bench`
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure fastnat against iptables and other ways to publish a port, in namespaces of its own.",
        discussion: "Prints tables; what is installed on this machine is not touched. Takes about 15 minutes.")

    @Flag(help: "Fewer cases and shorter samples: about 2 minutes, less to rely on.")
    var quick = false

    @Option(help: "Paths to measure, with commas between them. Default: all.", transform: PathList.init)
    var paths = PathList()

    @Option(help: "Workloads, with commas between them. Default: all.", transform: WorkloadList.init)
    var workloads = WorkloadList()

    @Option(help: "The program of another build, measured beside this one as other-tc and other-xdp.")
    var against: String?

    @Option(help: "Rounds of each figure. Default: 4, with --quick 1.")
    var rounds: Int?

    @Option(help: "Write everything that was found to this file.")
    var json: String?

    @Option(help: "Write a page with charts to this file.")
    var html: String?

    @Option(help: "Measure nothing: show what --json wrote to this file; given several times, those runs as one.")
    var from: [String] = []

    @Option(help: "Compare ratios with what --json wrote to this file; a loss of more than 10 % is exit status 76.")
    var compare: String?

    @Option(help: "Write the figures into this document, between its marks; several times: into each.")
    var document: [String] = []

    func validate() throws {
        if let rounds, !(1...1000).contains(rounds) { throw ValidationError("--rounds is a number from 1 to 1000") }
        if against == nil, paths.values.contains(where: \.isOther) {
            throw ValidationError("other-tc and other-xdp take --against: the program of another build")
        }
        if let against, access(against, X_OK) != 0 {
            throw ValidationError("--against: there is no program \(against) that could be run")
        }
    }

    func run() throws {
        var losses: [Comparison.Loss] = []
        try benchReporting { () throws(BenchError) in
            let past = try compare.map { path throws(BenchError) in try Report(readingFrom: path) }
            let report = try obtain()
            print(ReportTables(report).text(), terminator: "")
            if let json { try report.write(to: json) }
            if let html { try Report.write(ReportPage(report).html(), to: html) }
            for path in document { try BenchmarkDocument.update(path, with: report) }
            if let past { losses = compareRatios(of: report, with: past) }
        }
        if !losses.isEmpty { throw ExitCode(ExitStatus.slower.rawValue) }
    }

    private func obtain() throws(BenchError) -> Report {
        if !from.isEmpty {
            let runs = try from.map { path throws(BenchError) in try Report(readingFrom: path) }
            return try Report(pooling: runs)
        }
        return try Benchmark.run(
            BenchOptions(
                paths: paths.values, workloads: workloads.values, rounds: rounds, quick: quick, binary: ownBinary(),
                other: against.map(absolutePath), version: FastnatCommand.configuration.version))
    }

    private func compareRatios(of report: Report, with past: Report) -> [Comparison.Loss] {
        let comparison = Comparison(of: report, with: past)
        complain("bench: compared \(comparison.compared) ratios, \(comparison.losses.count) lost more than 10 %")
        for loss in comparison.losses { complain("bench: \(loss)") }
        return comparison.losses
    }

    /// The program is started in other namespaces, by a search along PATH where its name has no slash.
    private func absolutePath(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private func ownBinary() -> String {
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = readlink("/proc/self/exe", &path, path.count - 1)
        return length > 0 ? String(decoding: path[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) : "fastnat"
    }
}

/// Values of an enumeration with commas between them.
struct PathList {
    var values: [PathKind] = []

    init() {}

    init(_ text: String) throws { values = try parseList(text) }
}

struct WorkloadList {
    var values: [WorkloadKind] = []

    init() {}

    init(_ text: String) throws { values = try parseList(text) }
}

private func parseList<Value: RawRepresentable<String> & CaseIterable>(_ text: String) throws -> [Value] {
    try text.split(separator: ",").map { word in
        guard let value = Value(rawValue: String(word)) else {
            let known = Value.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("'\(word)' is none of \(known)")
        }
        return value
    }
}

/// Runs the body of a command: an error becomes one sentence on stderr and its exit status.
private func benchReporting(_ body: () throws(BenchError) -> Void) throws {
    do throws(BenchError) {
        try body()
    } catch {
        complain("fastnat: \(error)")
        throw ExitCode(error.exitStatus.rawValue)
    }
}

extension BenchError {
    var exitStatus: ExitStatus {
        switch self {
        case .notPermitted: .notPermitted
        case .file: .noInput
        case .lab, .bpf, .unavailable, .wrong: .software
        }
    }
}
