/// Everything that one run found, as it is in the JSON file.
public struct Report: Codable, Sendable, Hashable {
    /// The version of this layout.
    public static let currentSchema = 1

    /// The version of the layout of this value.
    public var schema = Self.currentSchema
    /// Where it was measured.
    public var machine: Machine
    /// How.
    public var settings: Settings
    /// The paths, in the order of tables.
    public var paths: [PathDescription]
    /// The workloads, in the order they were run.
    public var workloads: [WorkloadReport]
    /// What became of the targets; in files alone, worked out anew by whoever reads one (`verdicts`).
    public var targets: [Verdict]?
    /// Seconds it took.
    public var seconds: Double
    /// Of several runs that are shown as one (`init(pooling:)`): each of them.
    public var runs: [Run]?

    /// How it was measured.
    public struct Settings: Codable, Sendable, Hashable {
        /// Rounds of most figures.
        public var rounds: Int
        /// Seconds of a round, whose turns share it.
        public var sampleSeconds: Double
        /// Whether it was `--quick`.
        public var quick: Bool
    }

    /// A path.
    public struct PathDescription: Codable, Sendable, Hashable {
        /// Such as `iptables-nft`.
        public var name: String
        /// What packets go through, and how it was configured.
        public var text: String
    }
}

extension Report {
    /// The names of the paths that a workload was measured on.
    func paths(of workload: WorkloadReport) -> [String] {
        paths.map(\.name).filter { path in workload.series.contains { $0.cell(path) != nil } }
    }
}

/// The figures of one workload.
public struct WorkloadReport: Codable, Sendable, Hashable {
    /// Such as `pps`.
    public var name: String
    /// What is measured, one sentence without a final stop.
    public var title: String
    /// Its figures.
    public var series: [Series]
}

/// One figure of every path.
public struct Series: Codable, Sendable, Hashable {
    /// What was done, such as "direct, 1 flow"; unique in its workload together with `metric`.
    public var name: String
    /// What was counted, such as "packets".
    public var metric: String
    /// Of the values.
    public var unit: FigureUnit
    /// The values by path.
    public var cells: [Cell]

    /// The cell of a path.
    public func cell(_ path: String) -> Cell? { cells.first { $0.path == path } }

    /// How a path compares with the reference: 2 is twice as good, whichever way is better.
    public func ratio(_ path: String, to reference: String = PathKind.reference.rawValue) -> Double? {
        comparison(path, to: reference)?.median
    }

    /// The same, with its spread: that of the ratios of each turn, because what else the machine does changes from one to the next,
    /// and meets all paths alike when they take it one after the other. nil for what is a ratio itself.
    func comparison(_ path: String, to reference: String = PathKind.reference.rawValue) -> Statistics? {
        let (value, base) = unit.isHigherBetter ? (path, reference) : (reference, path)
        guard unit != .ofOnePort, let value = cell(value), let base = cell(base) else { return nil }
        return value.quotients(by: base)
    }
}

/// What a path reached.
public struct Cell: Codable, Sendable, Hashable {
    /// The path.
    public var path: String
    /// Its turns.
    public var samples: [Double]
    /// Of so many turns it has taken the first; nil: each.
    public var stride: Int?
    /// Why there are none.
    public var missing: String?
    /// The middle value.
    public var median: Double?
    /// The distance between the quartiles, as a part of the median.
    public var spread: Double?

    /// Whether turns differed so much that the median says little.
    public var isNoisy: Bool { Statistics(samples)?.isNoisy ?? false }

    /// What its samples are of another path's, taken in the same turns; nil where there are none, or other turns.
    func quotients(by other: Cell) -> Statistics? {
        let (own, others) = (taken(every: other.stride), other.taken(every: stride))
        guard own.count == others.count, (own + others).allSatisfy({ $0 > 0 }) else { return nil }
        return Statistics(zip(own, others).map { $0 / $1 })
    }

    /// Its samples of the turns that a path of another stride has taken.
    private func taken(every other: Int?) -> [Double] {
        guard let other, stride == nil else { return samples }
        return Swift.stride(from: 0, to: samples.count, by: other).map { samples[$0] }
    }

    /// Works the figures out.
    public init(path: String, samples: [Double], stride: Int? = nil, missing: String? = nil) {
        self.path = path
        self.samples = samples
        self.stride = stride
        self.missing = samples.isEmpty ? missing ?? "not measured" : nil
        let statistics = Statistics(samples)
        median = statistics?.median
        spread = statistics?.spread
    }
}

/// The unit of a figure, and which way is better.
public enum FigureUnit: String, Codable, Sendable, Hashable {
    case packetsPerSecond = "packets/s"
    case connectionsPerSecond = "connections/s"
    case flowsPerSecond = "flows/s"
    case gigabitsPerSecond = "Gbit/s"
    case gigabitsPerCPUSecond = "Gbit/CPU-s"
    case microseconds = "µs"
    case milliseconds = "ms"
    case nanoseconds = "ns"
    case bytes = "bytes"
    case flows = "flows"
    case percentOfCPU = "% of a CPU"
    /// A part of what the same path does with one published port.
    case ofOnePort = "of 1 port"

    /// Whether more is better.
    public var isHigherBetter: Bool {
        switch self {
        case .packetsPerSecond, .connectionsPerSecond, .flowsPerSecond, .gigabitsPerSecond, .gigabitsPerCPUSecond,
            .flows, .ofOnePort:
            true
        case .microseconds, .milliseconds, .nanoseconds, .bytes, .percentOfCPU: false
        }
    }

    /// A value as people read it, such as "4.33 M".
    public func format(_ value: Double) -> String {
        switch self {
        case .packetsPerSecond, .connectionsPerSecond, .flowsPerSecond, .flows:
            value >= 999_500
                ? Self.digits(value / 1e6) + " M"
                : value >= 1_000 ? Self.digits(value / 1e3) + " k" : Self.digits(value)
        default: Self.digits(value)
        }
    }

    /// Three digits that count.
    static func digits(_ value: Double) -> String {
        let magnitude = abs(value)
        let decimals = magnitude >= 99.95 ? 0 : magnitude >= 9.995 ? 1 : 2
        return fixed(value, decimals)
    }
}

/// A number with so many digits after the point.
func fixed(_ value: Double, _ decimals: Int) -> String {
    var scale = 1.0
    for _ in 0..<decimals { scale *= 10 }
    let scaled = (abs(value) * scale).rounded()
    let (whole, part) = (Int64(scaled / scale), Int64(scaled.truncatingRemainder(dividingBy: scale)))
    let sign = value < 0 && scaled > 0 ? "-" : ""
    if decimals == 0 { return sign + "\(whole)" }
    let fraction = String(part)
    return sign + "\(whole)." + String(repeating: "0", count: decimals - fraction.count) + fraction
}
