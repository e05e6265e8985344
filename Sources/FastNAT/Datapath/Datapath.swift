public import Addresses
internal import BPF
internal import CDatapath

/// A loaded datapath: its maps and the programs that Swift runs itself.
///
/// `LoadedDatapath` opens the one of this network namespace; tests make one that is attached nowhere.
public struct Datapath: ~Copyable {
    let maps: DatapathMaps
    let flushProgram: Descriptor

    init(maps: consuming DatapathMaps, flushProgram: consuming Descriptor) {
        self.maps = maps
        self.flushProgram = flushProgram
    }

    /// All mappings with their counters, sorted by protocol, port and address.
    public func mappings() throws(FastNATError) -> [InstalledMapping] {
        try translating {
            try maps.mappingEntries().map { entry in
                let counters = try maps.counters(of: entry.value.id)
                return InstalledMapping(
                    mapping: entry.mapping, packets: counters.packets, bytes: counters.bytes,
                    flows: counters.liveFlows, owner: entry.owner, id: entry.value.id)
            }
        }
    }

    /// The flows that live now.
    public func flows() throws(FastNATError) -> [Flow] {
        try translating { try maps.currentFlows() }
    }

    /// How many flows there are and can be.
    public func flowCount() throws(FastNATError) -> FlowCount {
        try translating {
            let gauges = try maps.gauges.value(0) ?? flow_gauges()
            let settings = try maps.currentSettings()
            return FlowCount(
                flows: gauges.counts.flowCount(but: gauges.wide, \.flows), wide: Int(gauges.wide.flows),
                limit: Int(settings.max_flows),
                halfOpen: gauges.counts.flowCount(but: gauges.wide, \.half_open),
                halfOpenLimit: Int(settings.max_half_open), sweepSteps: gauges.sweep_steps,
                longestSweepStep: gauges.longest_sweep_step)
        }
    }

    /// Ends the flows of one mapping, or all. Returns how many there were.
    public func flushFlows(of listen: Listen? = nil) throws(FastNATError) -> Int {
        try translating {
            guard let listen else {
                var request = flush_request()
                request.all = 1
                return try flush(&request)
            }
            let entries = try maps.mappingEntries().filter { $0.mapping.listen.isSame(as: listen) }
            guard !entries.isEmpty else { throw FastNATError.noMapping(listen) }
            return try flush(entries.map(\.value.id))
        }
    }

    /// Ends the flows of mappings or masquerades, by their ids. Returns how many there were. For each run of ids the whole table
    /// is looked through.
    ///
    /// - Parameter drains: TCP connections and SCTP associations go on.
    @discardableResult
    func flush(_ ids: [UInt32], _ ending: FlowEnding = .drain, drains: Bool = false) throws(BPFError) -> Int {
        var ended = 0
        for run in RangeSet(ids.map { $0..<$0 + 1 }).ranges {
            var request = flush_request()
            request.mapping_id = run.lowerBound
            request.mappings = UInt32(run.count)
            request.drains = drains ? 1 : 0
            request.cut = ending == .cut ? 1 : 0
            ended += try flush(&request)
        }
        return ended
    }

    /// Ends the UDP flows, echoes and external ports of what an address has begun, as a container that has died. Returns how many
    /// there were. TCP connections drain.
    @discardableResult
    public func endUDPFlows(from source: IPAddress) throws(FastNATError) -> Int {
        try translating {
            var request = flush_request()
            request.by_source = 1
            request.source = address(source)
            request.drains = 1
            return try flush(&request)
        }
    }

    /// Ends the flows that the request asks for. Returns how many there were.
    func flush(_ request: inout flush_request) throws(BPFError) -> Int {
        try flushProgram.run(&request)
        return Int(request.ended)
    }

    /// Packets that were not forwarded, by reason, over all CPUs.
    public func reasonCounts() throws(FastNATError) -> [ReasonCount] {
        try translating {
            try Reason.all.map { reason in
                ReasonCount(
                    name: reason.name, text: reason.text, isDrop: reason.isDrop,
                    packets: try maps.reasonCounters.values(reason.number).reduce(0, +))
            }
        }
    }

    /// The timeouts in force.
    public func timeouts() throws(FastNATError) -> Timeouts {
        try translating { Timeouts(try maps.currentSettings().timeouts) }
    }
}

/// What becomes of the established TCP connections of a mapping that goes.
public enum FlowEnding: Sendable {
    /// They go on to their end.
    case drain
    /// They are over: with the next segment of either end, both get a RST.
    case cut
}

extension flow_counts {
    /// Flows, of which the wide ones are counted twice here. They are not read at one moment.
    fileprivate func flowCount(but wide: flow_counts, _ count: KeyPath<flow_counts, UInt32>) -> Int {
        max(0, Int(self[keyPath: count]) - Int(wide[keyPath: count]))
    }
}

/// How full the table of flows is.
public struct FlowCount: Sendable, Hashable {
    /// Flows that live now.
    public let flows: Int
    /// Those of them that have IPv6 addresses: each takes two places.
    public let wide: Int
    /// Places for flows.
    public let limit: Int
    /// Flows that are half-open: TCP before the handshake is complete, UDP before a reply.
    public let halfOpen: Int
    /// Places for half-open flows; when they are taken, new ones take the place of old ones.
    public let halfOpenLimit: Int
    /// Steps that the sweep of idle flows has made.
    public let sweepSteps: UInt64
    /// The longest of them, ns.
    public let longestSweepStep: UInt64
}

/// How many packets were not forwarded for one reason.
public struct ReasonCount: Sendable, Hashable {
    /// The reason as printed, such as `ttl_expired`.
    public let name: String
    /// What it means.
    public let text: String
    /// Whether the packets were dropped; otherwise they went up the stack untouched.
    public let isDrop: Bool
    /// Packets since the load.
    public let packets: UInt64
}

extension mapping_counters {
    /// Flows that live now.
    var liveFlows: Int { Int(clamping: Int64(bitPattern: opened &- closed)) }
}

extension Listen {
    /// Whether a request for `other` means this mapping: a request without an address or family means that of any family.
    func isSame(as other: Listen) -> Bool {
        ports == other.ports && transport == other.transport && address == other.address
            && (other.family == nil || other.family == family)
    }
}
