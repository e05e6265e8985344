public import Addresses
public import FastNAT

/// What became of the rules of a packet filter.
public struct RuleImport: Sendable, Hashable {
    /// A rule, or several alike, that is not imported.
    public struct Refusal: Sendable, Hashable {
        /// Where it stands: its line, or its table and handle.
        public let place: String
        /// The rule as it stands there, the first of those that are alike, and how many more there are.
        public let rule: String
        /// Why, in words that fit behind a colon.
        public let reason: String
        private let number: Int
        private let group: String?

        /// - Parameter group: what rules have in common that are to be said at once.
        init(_ rule: PacketRule, _ reason: String, group: String? = nil) {
            self.init(place: rule.place, rule: rule.text, reason: reason, number: rule.number, group: group)
        }

        private init(place: String, rule: String, reason: String, number: Int, group: String?) {
            self.place = place
            self.rule = rule
            self.reason = reason
            self.number = number
            self.group = group
        }

        /// In their order, one for each rule, or for each group of them.
        static func joined(_ all: [Refusal]) -> [Refusal] {
            var seen: Set<Int> = []
            let sorted = all.sorted { $0.number < $1.number }.filter { seen.insert($0.number).inserted }
            let sizes = Dictionary(sorted.compactMap(\.group).map { ($0, 1) }, uniquingKeysWith: +)
            var said: Set<String> = []
            return sorted.compactMap { refusal in
                guard let group = refusal.group, let size = sizes[group] else { return refusal }
                guard said.insert(group).inserted else { return nil }
                let more = size > 1 ? " (and \(size - 1) more like it)" : ""
                return Refusal(
                    place: refusal.place, rule: refusal.rule + more, reason: refusal.reason, number: refusal.number,
                    group: group)
            }
        }
    }

    /// The mappings that mean the same as rules.
    public internal(set) var mappings: [PortMapping] = []
    /// The masquerades that mean the same as rules.
    public internal(set) var masquerades: [MasqueradeRule] = []
    /// The interface that rules were limited to; nil when they were not.
    public internal(set) var uplink: String?
    /// The rules that are not imported, in their order.
    public internal(set) var refusals: [Refusal] = []

    /// Of no rules.
    public init() {}

    /// Makes mappings and masquerades of the rules that packets meet, in text of iptables-save, IPv4 or IPv6 or one after the
    /// other.
    ///
    /// - Parameter uplink: the interface that packets to anywhere leave by, for masquerades that name none.
    public init(iptables text: String, uplink: @escaping (IPFamily) -> String? = { _ in nil }) {
        var walk = RuleWalk(PacketRules(iptables: text), uplink: uplink)
        self = walk.run()
    }

    /// The same as a state of a configuration file.
    public func state(of owner: MappingOwner, force: Bool = false) -> DesiredState {
        var state = DesiredState(owner: owner)
        state.uplinks = uplink.map { [.init($0)] }
        state.mappings = mappings.map { .init($0, force: force) }
        if !masquerades.isEmpty { state.masquerades = masquerades }
        return state
    }
}
