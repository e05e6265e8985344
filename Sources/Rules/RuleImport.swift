public import FastNAT

/// What became of the rules of a packet filter.
public struct RuleImport: Sendable, Hashable {
    /// A rule that is no mapping now.
    public struct Refusal: Sendable, Hashable {
        /// Its line, from 1.
        public let line: Int
        /// The rule as it stands there.
        public let rule: String
        /// Why, in words that fit behind a colon.
        public let reason: String
    }

    /// The mappings that mean the same as rules.
    public internal(set) var mappings: [PortMapping] = []
    /// The interface that rules were limited to; nil when they were not.
    public internal(set) var uplink: String?
    /// The rules that are not imported, in the order of their lines.
    public internal(set) var refusals: [Refusal] = []

    /// The same as a state of a configuration file.
    public func state(of owner: MappingOwner, force: Bool = false) -> DesiredState {
        var state = DesiredState(owner: owner)
        state.uplinks = uplink.map { [.init($0)] }
        state.mappings = mappings.map { .init($0, force: force) }
        return state
    }
}
