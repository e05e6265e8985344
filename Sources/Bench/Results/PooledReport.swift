extension Report {
    /// A run of those that a report was pooled from.
    public struct Run: Codable, Sendable, Hashable {
        /// When it began, UTC, ISO 8601.
        public var date: String
        /// Seconds it took.
        public var seconds: Double
        /// `Machine.readNanoseconds` of it.
        public var readNanoseconds: Double?
        /// `Machine.lineNanoseconds` of it.
        public var lineNanoseconds: Double?
        /// What became of each target in it, in the order of `verdicts`.
        public var outcomes: [Verdict.Outcome]
    }

    /// Several runs of the same measurements on the same machine as one, whose samples are those of all. What became of a target
    /// in each of them is kept: it may be held by the samples of all, and not by those of one.
    public init(pooling reports: [Report]) throws(BenchError) {
        guard let first = reports.first else { throw .file("there is no run to show") }
        self = first
        if reports.count == 1 { return }
        for report in reports.dropFirst() { try add(report) }
        runs = reports.map { report in
            Run(
                date: report.machine.date, seconds: report.seconds, readNanoseconds: report.machine.readNanoseconds,
                lineNanoseconds: report.machine.lineNanoseconds, outcomes: report.verdicts.map(\.outcome))
        }
    }

    private mutating func add(_ other: Report) throws(BenchError) {
        guard other.layout == layout, other.machine.kernel == machine.kernel,
            other.machine.processor == machine.processor
        else {
            throw .file(
                "the runs of \(machine.date) and \(other.machine.date) are of different measurements or machines: "
                    + "they cannot be shown as one")
        }
        settings.rounds += other.settings.rounds
        seconds += other.seconds
        for (workload, added) in other.workloads.enumerated() {
            for (series, added) in added.series.enumerated() {
                let cells = workloads[workload].series[series].cells
                workloads[workload].series[series].cells = zip(cells, added.cells).map { $0.pooled(with: $1) }
            }
        }
    }

    /// What was measured, on which paths.
    private var layout: [[String]] {
        workloads.flatMap { workload in
            workload.series.map {
                [workload.name, $0.name, $0.metric, $0.unit.rawValue]
                    + $0.cells.map { "\($0.path) \($0.stride ?? 1)" }
            }
        }
    }
}

extension Cell {
    /// What has failed in one of two runs has no figure.
    fileprivate func pooled(with other: Cell) -> Cell {
        let failure = missing ?? other.missing
        return Cell(
            path: path, samples: failure == nil ? samples + other.samples : [], stride: stride, missing: failure)
    }
}
