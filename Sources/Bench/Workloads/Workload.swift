internal import Lab

/// Something that every path has to do.
protocol Workload: Sendable {
    /// Such as `pps`.
    var name: String { get }
    /// What is measured, one sentence without a final stop.
    var title: String { get }
    /// What is to be done, in topologies alike.
    func groups(_ options: BenchOptions) -> [WorkloadGroup]
    /// Whether a path is measured.
    func concerns(_ path: PathKind) -> Bool
    /// Whether it is about finding flows in tables, so that the limits of that are measured.
    var isAboutTables: Bool { get }
}

extension Workload {
    var isAboutTables: Bool { false }

    /// `auto` is one of the other two: it is measured where it has to choose.
    func concerns(_ path: PathKind) -> Bool { path != .fastnatAuto && (isAboutTables || !path.isBare) }
}

/// Measurements that share a topology for each path.
struct WorkloadGroup {
    let plan: Stage.Plan
    let measurements: [Measurement]

    init(plan: Stage.Plan, measurements: [Measurement], roundsShare: Double = 1) {
        self.plan = plan
        self.measurements = measurements.map { $0.inRounds(roundsShare) }
    }
}

/// One thing to do, which gives one figure or several.
struct Measurement {
    /// Such as "direct, 1 flow".
    var name: String
    /// What each sample gives, in this order.
    var metrics: [Metric]
    /// So many turns in the time of one, each of which is a sample: the more often paths take turns, the less it matters what else
    /// the machine does. For what starts and stops in no time. In a quick run, whose samples are half as long, half as many.
    var turns = 1
    /// Paths that no target asks about take one turn a round: for turns that take long. Not in a quick run.
    var othersTakeOne = false
    /// What takes longer than others, or is not judged, has this part of the rounds, at least one; what takes no time and is
    /// noisy, a multiple.
    var roundsShare = 1.0
    /// How often all paths get as many rounds again while one has a noisy figure: for what the scheduler has a hand in.
    var repetitions = 0
    /// Prepares a path, and verifies that it does its work; `.unavailable` when it cannot.
    var begin: (Stage) throws(BenchError) -> any Probe

    /// A figure.
    struct Metric {
        var name: String
        var unit: FigureUnit
        /// Of the few slowest: noisy by nature, so nothing is repeated for it.
        var isTail = false
    }
}

extension Measurement {
    /// The same in a part of its rounds.
    func inRounds(_ share: Double) -> Measurement {
        var measurement = self
        measurement.roundsShare *= share
        return measurement
    }

    /// A quick run has no more of anything than it is told to.
    func rounds(_ options: BenchOptions) -> Int {
        let share = options.quick ? min(roundsShare, 1) : roundsShare
        return max(1, Int((Double(options.rounds) * share).rounded(.up)))
    }
}

/// A path that is ready to be measured; goes back to what it was with this object.
protocol Probe: AnyObject {
    /// Measures for so many seconds, or once.
    func sample(seconds: Double) throws(BenchError) -> [Double]
}

/// The workloads by name, in the order that they are run in.
public enum WorkloadKind: String, Sendable, CaseIterable, Codable {
    case pps, outbound, bulk, cps, rr, newflow, rules, flows, cpu

    var workload: any Workload {
        switch self {
        case .pps: PacketRateWorkload()
        case .outbound: OutboundWorkload()
        case .bulk: BulkWorkload()
        case .cps: ConnectionRateWorkload()
        case .rr: ResponseTimeWorkload()
        case .newflow: NewFlowWorkload()
        case .rules: RulesWorkload()
        case .flows: FlowMemoryWorkload()
        case .cpu: ProcessorWorkload()
        }
    }
}
