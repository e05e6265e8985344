internal import BPF
internal import CDatapath

/// What can be limited about the flows of a mapping or masquerade, by its key in files.
public enum FlowLimit: String, Sendable, Hashable, CaseIterable {
    /// Flows that live.
    case flows = "limit-flows"
    /// Flows that begin.
    case rate = "limit-rate"
    /// Flows of one source that live.
    case flowsPerSource = "limit-flows-per-source"
    /// Flows of one source that begin.
    case ratePerSource = "limit-rate-per-source"
}

/// So many new flows in a period on average, and no more than that at once.
public struct FlowRate: Sendable, Hashable {
    /// What a rate is given for.
    public enum Period: UInt32, Sendable, Hashable {
        /// A second.
        case second = 1
        /// A minute.
        case minute = 60
    }

    /// Flows in a period, 1 or more.
    public let flows: UInt32
    /// The period.
    public let period: Period
}

/// How many flows a mapping or masquerade may have, and how many each of its sources; nil: any number.
public struct FlowLimits: Sendable, Hashable {
    /// Flows that live.
    public private(set) var flows: UInt32?
    /// Flows that begin.
    public private(set) var rate: FlowRate?
    /// Flows of one source that live.
    public private(set) var flowsPerSource: UInt32?
    /// Flows of one source that begin.
    public private(set) var ratePerSource: FlowRate?

    /// No limits.
    public init() {}

    /// Whether there is none.
    public var isEmpty: Bool { self == FlowLimits() }

    /// A limit's value as `set` reads it, such as `10/s`; nil where there is none.
    public func text(_ limit: FlowLimit) -> String? {
        switch limit {
        case .flows: flows.map(String.init)
        case .rate: rate?.description
        case .flowsPerSource: flowsPerSource.map(String.init)
        case .ratePerSource: ratePerSource?.description
        }
    }

    /// Sets a limit: to a number, or for a rate `N`, `N/s` or `N/m`.
    public mutating func set(_ limit: FlowLimit, to text: String) throws(MappingError) {
        switch limit {
        case .flows: flows = try Self.number(text, limit)
        case .rate: rate = try FlowRate(parsing: text, limit)
        case .flowsPerSource: flowsPerSource = try Self.number(text, limit)
        case .ratePerSource: ratePerSource = try FlowRate(parsing: text, limit)
        }
    }

    private static func number(_ text: String, _ limit: FlowLimit) throws(MappingError) -> UInt32 {
        let most = FLOW_LIMIT_MAX.rawValue
        guard let number = UInt32(text), (1...most).contains(number), text.first != "+" else {
            throw .invalidLimit(limit, text, form: "a number of flows from 1 to \(most)")
        }
        return number
    }
}

extension FlowLimits: CustomStringConvertible {
    /// `limit-flows=100 limit-rate=10/s`
    public var description: String {
        FlowLimit.allCases.compactMap { limit in text(limit).map { "\(limit.rawValue)=\($0)" } }
            .joined(separator: " ")
    }
}

extension FlowRate: CustomStringConvertible {
    /// `10/s` or `10/m`.
    public var description: String { "\(flows)/\(period == .second ? "s" : "m")" }

    fileprivate init(parsing text: String, _ limit: FlowLimit) throws(MappingError) {
        let most = FLOW_RATE_MAX.rawValue
        let isOfMinute = text.hasSuffix("/m")
        let number = isOfMinute || text.hasSuffix("/s") ? text.dropLast(2) : text[...]
        guard let flows = UInt32(number), (1...most).contains(flows), text.first != "+" else {
            throw .invalidLimit(
                limit, text, form: "a number of new flows from 1 to \(most) a second or minute: 10/s, 90/m")
        }
        self.init(flows: flows, period: isOfMinute ? .minute : .second)
    }
}

// MARK: In the datapath

extension flow_limits {
    init(_ limits: FlowLimits) {
        self.init(
            flows: limits.flows ?? 0, flows_per_source: limits.flowsPerSource ?? 0, rate: flow_rate(limits.rate),
            rate_per_source: flow_rate(limits.ratePerSource), salt: .random(in: 0...UInt32.max), zero: 0)
    }
}

extension flow_rate {
    fileprivate init(_ rate: FlowRate?) {
        self.init(flows: rate?.flows ?? 0, seconds: rate?.period.rawValue ?? 0)
    }
}

extension FlowLimits {
    /// The limits that an entry stands for.
    init(_ entry: flow_limits) {
        flows = entry.flows == 0 ? nil : entry.flows
        rate = FlowRate(entry.rate)
        flowsPerSource = entry.flows_per_source == 0 ? nil : entry.flows_per_source
        ratePerSource = FlowRate(entry.rate_per_source)
    }
}

extension FlowRate {
    fileprivate init?(_ entry: flow_rate) {
        guard entry.flows > 0, let period = Period(rawValue: entry.seconds) else { return nil }
        self.init(flows: entry.flows, period: period)
    }
}

extension DatapathMaps {
    /// Limits of mappings and masquerades by their identifiers.
    func flowLimits() throws -> [UInt32: FlowLimits] {
        Dictionary(uniqueKeysWithValues: try limits.entries().map { ($0.key, FlowLimits($0.value)) })
    }

    /// Writes the limits of a mapping or masquerade; none: takes away what there is.
    func setLimits(_ new: FlowLimits, of id: UInt32) throws {
        if new.isEmpty { try limits.remove(id) } else { try limits.set(id, flow_limits(new)) }
    }

    /// Takes away the limits that a killed command has left: those of identifiers out of `all` that nobody has.
    func mendLimits(of all: Range<UInt32>, present: Set<UInt32>) throws {
        for id in try limits.keys() where all.contains(id) && !present.contains(id) { try limits.remove(id) }
    }
}
