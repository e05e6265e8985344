/// Whether fastnat has become slower, in proportion to what it is compared with.
public struct Comparison: Sendable {
    /// A figure that got worse.
    public struct Loss: Sendable, Hashable, CustomStringConvertible {
        /// Such as "pps, direct, 1 flow (packets)".
        public let figure: String
        /// The path.
        public let path: String
        /// Times better than the reference, then.
        public let before: Double
        /// The same now; nil: it has no figure any more.
        public let now: Double?

        /// One sentence without a final stop.
        public var description: String {
            let present = now.map { "\(fixed($0, 2))×" } ?? "no figure"
            return "\(figure): \(path) had \(fixed(before, 2))× of \(PathKind.reference.rawValue), now \(present)"
        }
    }

    /// The part of a ratio that may be lost before it counts.
    public static let tolerance = 0.1

    /// What got worse.
    public let losses: [Loss]
    /// Figures that were compared.
    public let compared: Int

    /// Compares what both have, of fastnat's paths. Figures that are noisy on either side, or rest on one sample, are left out
    /// unless they are missing now.
    public init(of present: Report, with past: Report) {
        var losses: [Loss] = []
        var compared = 0
        for workload in past.workloads {
            guard let now = present.workloads.first(where: { $0.name == workload.name }) else { continue }
            for series in workload.series {
                guard let same = now.series.first(where: { $0.name == series.name && $0.metric == series.metric })
                else { continue }
                for path in [PathKind.fastnatTC, .fastnatXDP].map(\.rawValue) {
                    guard let before = series.ratio(path), let cell = same.cell(path),
                        !Self.isUncertain(series, path), !Self.isUncertain(same, path)
                    else { continue }
                    compared += 1
                    let ratio = cell.median == nil ? nil : same.ratio(path)
                    if let ratio, ratio >= before * (1 - Self.tolerance) { continue }
                    losses.append(
                        Loss(
                            figure: "\(workload.name), \(series.name) (\(series.metric))", path: path, before: before,
                            now: ratio))
                }
            }
        }
        self.losses = losses
        self.compared = compared
    }

    private static func isUncertain(_ series: Series, _ path: String) -> Bool {
        series.comparison(path)?.isNoisy ?? false
    }
}
