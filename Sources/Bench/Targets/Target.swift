/// What fastnat is to reach in the benchmark: a bound on a figure of one path, or on the worst of several.
struct Target: Sendable {
    let workload: WorkloadKind
    /// The series that are to keep to it, by their names.
    let series: [String]
    /// What is counted in them.
    let metric: String
    let path: PathKind
    let bound: Bound
    /// What to call several series together.
    let label: String?

    init(
        _ workload: WorkloadKind, _ series: String..., metric: String, _ path: PathKind, _ bound: Bound,
        label: String? = nil
    ) {
        self.workload = workload
        self.series = series
        self.metric = metric
        self.path = path
        self.bound = bound
        self.label = label
    }

    /// What the figure is divided by, and the limit of the quotient: the least, or where less is better, the most.
    enum Bound: Sendable {
        /// The same of another path.
        case times(Double, PathKind)
        /// The better of other paths.
        case best(Double, [PathKind])
        /// Nothing: the limit has the unit of the figure.
        case value(Double)
        /// How the same path compares with the reference in another workload; so does the figure itself.
        case lead(Double, WorkloadKind, String, metric: String)

        var limit: Double {
            switch self {
            case .times(let limit, _), .best(let limit, _), .value(let limit), .lead(let limit, _, _, _): limit
            }
        }
    }

    /// The paths whose figures of this series say whether it is held, or could be.
    func paths(_ workload: String, _ name: String, _ metric: String) -> [PathKind] {
        guard self.workload.rawValue == workload, series.contains(name), self.metric == metric else { return [] }
        let compared: [PathKind] =
            switch bound {
            case .times(_, let path): [path]
            case .best(_, let paths): paths
            case .lead: [.reference]
            case .value: []
            }
        return [path] + compared + path.limits.joined()
    }

    /// Whether it is held in a report; nil when the report is not of this workload, or the path is not in it.
    func verdict(in report: Report) -> Verdict? {
        guard let workload = report.workload(workload), report.paths.contains(where: { $0.name == path.rawValue }),
            let unit = workload.series.first(where: { $0.metric == metric })?.unit
        else { return nil }
        let figures = series.map { name in (name, quotient(path, name, in: report)) }
        var verdict = Verdict(
            figure: "\(workload.name), \(label ?? series.joined(separator: ", ")): \(metric)", path: path.rawValue,
            target: text(unit), outcome: .unmeasured)
        guard !figures.contains(where: { $0.1 == nil }) else {
            let cells = series.map { report.series(self.workload, $0, metric)?.cell(path.rawValue) }
            verdict.text = cells.lazy.compactMap { $0?.missing }.first ?? verdict.text
            return verdict
        }
        let quotients = figures.compactMap { name, quotient in quotient.map { (name, $0) } }
        guard let (name, worst) = worst(quotients, unit) else { return verdict }
        verdict.measured = worst.value
        verdict.outcome = isReached(worst.value, unit) ? .held : .missed
        verdict.isNoisy = worst.isNoisy
        verdict.text = measuredText(worst.value, unit) + (series.count > 1 ? " (\(name))" : "")
        if let limit = limit(unit, in: report) {
            verdict.limit = limit.value
            verdict.limitText = (limit.isNoisy ? "~" : "") + measuredText(limit.value, unit)
            if verdict.outcome == .missed, !isReached(limit.value, unit) { verdict.outcome = .beyond }
        }
        return verdict
    }

    private func isReached(_ value: Double, _ unit: FigureUnit) -> Bool {
        isMore(unit) ? value >= bound.limit : value <= bound.limit
    }

    private func worst(_ quotients: [(String, Quotient)], _ unit: FigureUnit) -> (String, Quotient)? {
        quotients.min { isMore(unit) ? $0.1.value < $1.1.value : $0.1.value > $1.1.value }
    }

    /// What the limits reach: of a bare NAT, where it is measured, or else of those that redirect, the best; of several
    /// series the worst. nil: none says anything about this target.
    private func limit(_ unit: FigureUnit, in report: Report) -> Quotient? {
        let best = series.map { name -> (String, Quotient)? in
            for paths in path.limits {
                let reached = paths.compactMap { quotient($0, name, in: report) }
                let best = reached.max { isMore(unit) ? $0.value < $1.value : $0.value > $1.value }
                if let best { return (name, best) }
            }
            return nil
        }
        if best.contains(where: { $0 == nil }) { return nil }
        return worst(best.compactMap(\.self), unit)?.1
    }

    /// Whether the quotient is to be above its limit.
    private func isMore(_ unit: FigureUnit) -> Bool {
        if case .lead = bound { return true }
        return unit.isHigherBetter
    }

    private func text(_ unit: FigureUnit) -> String {
        let (sign, limit) = (isMore(unit) ? "≥" : "≤", Self.number(bound.limit))
        return switch bound {
        case .times(_, let path): "\(sign) \(limit) × \(path.rawValue)"
        case .best(_, let paths): "\(sign) \(limit) × the better of \(paths.map(\.rawValue).joined(separator: ", "))"
        case .value(let limit): "\(sign) \(unit.format(limit)) \(unit.rawValue)"
        case .lead(_, let workload, let name, _): "\(sign) \(limit) × the lead in \(workload.rawValue), \(name)"
        }
    }

    private func measuredText(_ value: Double, _ unit: FigureUnit) -> String {
        if case .value = bound { return "\(unit.format(value)) \(unit.rawValue)" }
        return fixed(value, 2)
    }

    /// Without zeros at its end.
    private static func number(_ value: Double) -> String {
        var text = fixed(value, 2)
        while text.hasSuffix("0") { text.removeLast() }
        return text.hasSuffix(".") ? String(text.dropLast()) : text
    }
}

extension Target {
    private struct Quotient {
        var value: Double
        var isNoisy: Bool
    }

    /// nil: one of the figures is missing.
    private func quotient(_ path: PathKind, _ name: String, in report: Report) -> Quotient? {
        guard let figures = report.series(workload, name, metric), let own = figures.cell(path.rawValue),
            let value = own.median
        else { return nil }
        func over(_ other: Cell?) -> Quotient? {
            other.flatMap { own.quotients(by: $0) }.map { Quotient(value: $0.median, isNoisy: $0.isNoisy) }
        }
        switch bound {
        case .value: return Quotient(value: value, isNoisy: own.isNoisy)
        case .times(_, let other): return over(figures.cell(other.rawValue))
        case .best(_, let paths):
            let cells = paths.compactMap { figures.cell($0.rawValue) }.filter { $0.median != nil }
            guard cells.count == paths.count else { return nil }
            return over(
                cells.max { left, right in
                    let (left, right) = (left.median ?? 0, right.median ?? 0)
                    return figures.unit.isHigherBetter ? left < right : left > right
                })
        case .lead(_, let workload, let name, let metric):
            let there = report.series(workload, name, metric)
            guard let here = figures.comparison(path.rawValue), let lead = there?.comparison(path.rawValue) else {
                return nil
            }
            return Quotient(value: here.median / lead.median, isNoisy: here.isNoisy || lead.isNoisy)
        }
    }
}

/// What became of a target.
public struct Verdict: Codable, Sendable, Hashable {
    /// Such as "pps, direct, 1 flow: packets".
    public var figure: String
    /// Whose.
    public var path: String
    /// Such as "≥ 5.5 × iptables-nft".
    public var target: String
    /// The quotient, or the figure where the target is one.
    public var measured: Double?
    /// The same as people read it; of several series, the worst.
    public var text = "–"
    /// Whether it was reached.
    public var outcome: Outcome
    /// Whether rounds differed so much that this says little.
    public var isNoisy = false
    /// What limits reach (`PathKind.isLimit`), where they say anything about it.
    public var limit: Double?
    /// The same as people read it.
    public var limitText = "–"

    /// Whether a target was reached.
    public enum Outcome: String, Codable, Sendable, CaseIterable {
        case held
        case missed
        /// Missed, and a limit misses it in the same run.
        case beyond = "beyond the limit"
        case unmeasured = "not measured"
    }
}

extension Report {
    /// What became of the targets in the workloads and paths that were measured.
    public var verdicts: [Verdict] { Target.all.compactMap { $0.verdict(in: self) } }

    func workload(_ kind: WorkloadKind) -> WorkloadReport? { workloads.first { $0.name == kind.rawValue } }

    func series(_ kind: WorkloadKind, _ name: String, _ metric: String) -> Series? {
        workload(kind)?.series.first { $0.name == name && $0.metric == metric }
    }
}

extension [Verdict] {
    /// Such as "31 of 40 held, 5 missed, 4 not measured".
    var summary: String {
        let counts = Verdict.Outcome.allCases.map { outcome in count { $0.outcome == outcome } }
        let others = zip(Verdict.Outcome.allCases, counts).dropFirst().filter { $0.1 > 0 }
        return (["\(counts[0]) of \(count) held"] + others.map { "\($0.1) \($0.0.rawValue)" }).joined(separator: ", ")
    }
}
