internal import ArgumentParser
internal import FastNAT

/// How many flows a mapping or masquerade may have.
struct LimitOptions: ParsableArguments {
    @Option(help: "Flows that live at once.")
    var limitFlows: String?

    @Option(help: "New flows a second or minute, such as 10/s or 90/m, and at once.")
    var limitRate: String?

    @Option(help: "The same for each source: an address, or over IPv6 a client's network of 64 bits.")
    var limitFlowsPerSource: String?

    @Option(help: "The same for each source.")
    var limitRatePerSource: String?

    func limits() throws(MappingError) -> FlowLimits {
        var limits = FlowLimits()
        if let limitFlows { try limits.set(.flows, to: limitFlows) }
        if let limitRate { try limits.set(.rate, to: limitRate) }
        if let limitFlowsPerSource { try limits.set(.flowsPerSource, to: limitFlowsPerSource) }
        if let limitRatePerSource { try limits.set(.ratePerSource, to: limitRatePerSource) }
        return limits
    }

    /// Whether one is given.
    var isGiven: Bool {
        [limitFlows, limitRate, limitFlowsPerSource, limitRatePerSource].contains { $0 != nil }
    }
}
