internal import Glibc
internal import Lab

/// A whole run.
public struct Benchmark {
    private let options: BenchOptions
    private var progress: Progress

    /// Nothing is done yet.
    public init(_ options: BenchOptions) {
        self.options = options
        progress = Progress(steps: 0)
    }

    /// Measures everything. Needs root. Namespaces and processes go when it ends, however it does.
    public static func run(_ options: BenchOptions) throws(BenchError) -> Report {
        guard geteuid() == 0 else { throw .notPermitted }
        var benchmark = Benchmark(options)
        return try benchmark.measure()
    }

    private mutating func measure() throws(BenchError) -> Report {
        let begin = ContinuousClock.now
        let machine = Machine.present(fastnat: options.version)
        let plans = options.workloads.map { kind in (kind.workload, kind.workload.groups(options)) }
        let store = try StageStore(binary: options.binary, other: options.other, for: requests(plans))
        defer { store.close() }
        let steps = plans.reduce(0) { steps, plan in
            let paths = options.paths.count(where: plan.0.concerns)
            return plan.1.reduce(steps) { steps, group in
                steps + group.measurements.reduce(1) { $0 + 1 + $1.rounds(options) } * paths
            }
        }
        progress = Progress(steps: steps)
        var workloads: [WorkloadReport] = []
        for (workload, groups) in plans {
            var series: [Series] = []
            for group in groups { series += measure(group, of: workload, store) }
            workloads.append(WorkloadReport(name: workload.name, title: workload.title, series: series))
        }
        progress.finish()
        return Report(
            machine: machine,
            settings: Report.Settings(
                rounds: options.rounds, sampleSeconds: options.sampleSeconds, quick: options.quick),
            paths: options.paths.map { Report.PathDescription(name: $0.rawValue, text: $0.text) },
            workloads: workloads, seconds: (ContinuousClock.now - begin).seconds.rounded())
    }

    /// The stages that will be asked for.
    private func requests(_ plans: [(any Workload, [WorkloadGroup])]) -> [(PathKind, Stage.Plan)] {
        plans.flatMap { workload, groups in
            groups.flatMap { group in options.paths.filter(workload.concerns).map { ($0, group.plan) } }
        }
    }

    /// Measures a group's figures on all paths.
    private mutating func measure(
        _ group: WorkloadGroup, of workload: any Workload, _ store: StageStore
    ) -> [Series] {
        let kinds = options.paths.filter(workload.concerns)
        for kind in kinds { progress.step("\(workload.name): \(kind.rawValue)") }
        let contenders = zip(kinds, store.stages(kinds, group.plan)).map { Contender($0, $1) }
        defer { for contender in contenders { contender.close() } }
        return group.measurements.flatMap { measure($0, contenders, of: workload.name) }
    }

    private mutating func measure(
        _ measurement: Measurement, _ contenders: [Contender], of workload: String
    ) -> [Series] {
        let rounds = measurement.rounds(options)
        let judged = measurement.judged(in: workload)
        for contender in contenders {
            progress.step("\(workload), \(measurement.name): \(contender.kind.rawValue)")
            contender.begin(measurement)
            let takesOne = measurement.othersTakeOne && !options.quick && !judged.contains(contender.kind)
            contender.stride = takesOne ? measurement.turns : nil
        }
        for _ in 0..<rounds { takeTurns(measurement, contenders, planned: workload) }
        var found = series(of: measurement, contenders)
        for _ in 0..<measurement.repetitions where measurement.isNoisy(found) {
            for _ in 0..<rounds { takeTurns(measurement, contenders, planned: nil) }
            found = series(of: measurement, contenders)
        }
        return found
    }

    /// A round: all paths take turns, each time in a new order, so that whatever else the machine does meets all of them alike.
    /// `workload`: where it is of the steps that were planned.
    private mutating func takeTurns(_ measurement: Measurement, _ contenders: [Contender], planned workload: String?) {
        let turns = options.quick ? max(1, measurement.turns / 2) : measurement.turns
        for turn in 0..<turns {
            for contender in contenders.shuffled() where turn == 0 || contender.stride == nil {
                if let workload, turn == 0 {
                    progress.step("\(workload), \(measurement.name): \(contender.kind.rawValue)")
                }
                contender.sample(seconds: options.sampleSeconds / Double(turns))
            }
        }
    }

    private func series(of measurement: Measurement, _ contenders: [Contender]) -> [Series] {
        measurement.metrics.enumerated().map { index, metric in
            let cells = contenders.map { contender in
                Cell(
                    path: contender.kind.rawValue, samples: contender.samples.map { $0[index] },
                    stride: contender.stride, missing: contender.failure)
            }
            return Series(name: measurement.name, metric: metric.name, unit: metric.unit, cells: cells)
        }
    }
}

extension Measurement {
    /// The paths that targets ask about.
    fileprivate func judged(in workload: String) -> Set<PathKind> {
        Set(metrics.flatMap { metric in Target.all.flatMap { $0.paths(workload, name, metric.name) } })
    }

    /// Whether a path's turns differed so much that more are worth their time.
    fileprivate func isNoisy(_ found: [Series]) -> Bool {
        zip(metrics, found).contains { metric, series in !metric.isTail && series.cells.contains(where: \.isNoisy) }
    }
}

/// A path in a group of measurements.
private final class Contender {
    let kind: PathKind
    private let stage: Stage?
    /// Why there is no stage.
    private let stageFailure: String?
    private var probe: (any Probe)?
    /// In the measurement that goes on, it takes the first of so many turns; nil: each.
    var stride: Int?
    /// Of the measurement that goes on.
    private(set) var samples: [[Double]] = []
    /// Why it has no figures.
    private(set) var failure: String?

    init(_ kind: PathKind, _ stage: Result<Stage, BenchError>) {
        self.kind = kind
        switch stage {
        case .success(let stage):
            self.stage = stage
            stageFailure = nil
        case .failure(let error):
            self.stage = nil
            stageFailure = error.summary
        }
    }

    /// Prepares a measurement in the place of the last.
    func begin(_ measurement: Measurement) {
        samples = []
        probe = nil
        failure = stageFailure
        guard let stage else { return }
        do throws(BenchError) { probe = try measurement.begin(stage) } catch { failure = error.summary }
    }

    /// One sample, unless it has failed: what goes wrong once has no figure at all.
    func sample(seconds: Double) {
        guard let probe else { return }
        do throws(BenchError) {
            samples.append(try probe.sample(seconds: seconds).map(Self.rounded))
        } catch {
            failure = error.summary
            samples = []
            stage?.isSound = false
            self.probe = nil
        }
    }

    /// Five digits: files of thousands of samples are read by people, too.
    private static func rounded(_ value: Double) -> Double {
        guard value != 0, value.isFinite else { return value }
        let unit = pow(10, log10(abs(value)).rounded(.down) - 4)
        return unit < 1 ? (value / unit).rounded() / (1 / unit).rounded() : (value / unit).rounded() * unit
    }

    /// Gives its stage back.
    func close() {
        probe = nil
        if let stage { stage.store.giveBack(stage) }
    }
}
