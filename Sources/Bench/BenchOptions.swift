internal import Glibc

/// What is to be measured, and how well.
public struct BenchOptions: Sendable {
    /// The paths, in the order of tables. The reference is measured whether it is among them or not.
    public var paths: [PathKind]
    /// The workloads.
    public var workloads: [WorkloadKind]
    /// Rounds of most figures.
    public var rounds: Int
    /// Fewer cases, shorter samples.
    public var quick: Bool
    /// The program that paths of fastnat run.
    public var binary: String
    /// Another build's program, to be measured beside it.
    public var other: String?
    /// The version of `binary`.
    public var version: String

    /// What a quick run leaves out unless it is named: there is one much like it, or its tables take long to make.
    private static let unhurried: Set<PathKind> = [.iptablesLegacy, .redirectPeer, .bareTC, .bareXDP]

    /// All of it, unless told otherwise; quickly, without a few paths.
    public init(
        paths: [PathKind] = [], workloads: [WorkloadKind] = [], rounds: Int? = nil, quick: Bool = false, binary: String,
        other: String? = nil, version: String
    ) {
        let usual = PathKind.allCases.filter { !quick || !Self.unhurried.contains($0) }
        let wanted = Set(paths.isEmpty ? usual : paths).union([PathKind.reference])
        self.paths = PathKind.allCases.filter { wanted.contains($0) && (other != nil || !$0.isOther) }
        self.workloads = workloads.isEmpty ? WorkloadKind.allCases : WorkloadKind.allCases.filter(workloads.contains)
        self.rounds = rounds ?? (quick ? 1 : 4)
        self.quick = quick
        self.binary = binary
        self.other = other
        self.version = version
    }

    /// Seconds of a round, whose turns share it.
    var sampleSeconds: Double { quick ? 0.1 : 0.2 }
}
