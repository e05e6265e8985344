internal import BPF
internal import CDatapath
internal import Glibc

/// Every map of the datapath that Swift uses, typed.
struct DatapathMaps: ~Copyable {
    let index: Map<UInt32, flow_bucket>
    let flows: Map<UInt32, flow_pair>
    let slots: Map<UInt32, UInt64>
    let gauges: Map<UInt32, flow_gauges>
    let settings: Map<UInt32, settings>
    let mappings: Map<mapping_key, mapping>
    let ranges: Map<range_key, range_starts>
    let sources: Map<source_key, UInt8>
    let owners: Map<UInt32, mapping_owner>
    let masquerades: Map<masquerade_key, masquerade>
    let exemptions: Map<exemption_key, UInt8>
    let limits: Map<UInt32, flow_limits>
    let limitCounts: Map<UInt32, UInt64>
    let limitDues: Map<UInt32, UInt64>
    let sourceCounts: Map<UInt32, source_bucket>
    let mappingCounters: PerCPUMap<mapping_counters>
    let hops: MappedVariables<shared_hop>
    let hostAddresses: PerCPUMap<address_note>
    let clientAddresses: PerCPUMap<address_note>
    let arrivals: PerCPUMap<arrival>
    let reasonCounters: PerCPUMap<UInt64>
    let xdpOutputs: Map<UInt32, UInt32>
    let peerOutputs: Map<UInt32, UInt32>
    let bridgePorts: Map<UInt32, bridge_port>
    let bridgePortDevices: Map<UInt32, UInt32>
    let bridgeStations: Map<station_key, UInt32>
    let fragmentNotes: Map<fragment_key, fragment_note>
    let fragmentQueues: Map<fragment_key, fragment_queue>

    /// The names of all maps in the object, which are also the names of their pins.
    static let names = [
        "flow_index", "flows", "flow_slots", "slot_cursors", "flow_gauges", "settings", "mappings", "mapping_ranges",
        "mapping_sources", "mapping_owners", "masquerades", "masquerade_exemptions", "mapping_counters",
        variablesMap, "host_addresses", "client_addresses", "arrivals", "reason_counters", "xdp_outputs",
        "peer_outputs", "bridge_ports",
        "bridge_port_devices", "bridge_stations", "fragment_notes", "fragment_queues", "fragment_slots",
        "fragment_cursor", "flow_limits",
        "limit_counts", "limit_dues", "source_counts", "source_dues",
        "scratches", "cuts", "report_limits", "stages", "xdp_stages", "sweeps",
    ]

    /// Opens each map by its name.
    init(_ open: (String) throws(BPFError) -> Descriptor) throws(BPFError) {
        // All into locals first: a value that cannot be copied must not be half made when an opening fails.
        let index = try Map<UInt32, flow_bucket>(try open("flow_index"), name: "flow_index")
        let flows = try Map<UInt32, flow_pair>(try open("flows"), name: "flows")
        let slots = try Map<UInt32, UInt64>(try open("flow_slots"), name: "flow_slots")
        let gauges = try Map<UInt32, flow_gauges>(try open("flow_gauges"), name: "flow_gauges")
        let settings = try Map<UInt32, CDatapath.settings>(try open("settings"), name: "settings")
        let mappings = try Map<mapping_key, mapping>(try open("mappings"), name: "mappings")
        let ranges = try Map<range_key, range_starts>(try open("mapping_ranges"), name: "mapping_ranges")
        let sources = try Map<source_key, UInt8>(try open("mapping_sources"), name: "mapping_sources")
        let owners = try Map<UInt32, mapping_owner>(try open("mapping_owners"), name: "mapping_owners")
        let masquerades = try Map<masquerade_key, masquerade>(try open("masquerades"), name: "masquerades")
        let exemptions = try Map<exemption_key, UInt8>(
            try open("masquerade_exemptions"), name: "masquerade_exemptions")
        let limits = try Map<UInt32, flow_limits>(try open("flow_limits"), name: "flow_limits")
        let limitCounts = try Map<UInt32, UInt64>(try open("limit_counts"), name: "limit_counts")
        let limitDues = try Map<UInt32, UInt64>(try open("limit_dues"), name: "limit_dues")
        let sourceCounts = try Map<UInt32, source_bucket>(try open("source_counts"), name: "source_counts")
        let mappingCounters = try PerCPUMap<mapping_counters>(try open("mapping_counters"), name: "mapping_counters")
        let hops = try MappedVariables<shared_hop>(
            try open(variablesMap), count: Int(MAX_MAPPINGS.rawValue) + Int(MAX_NEXT_HOPS.rawValue))
        let hostAddresses = try PerCPUMap<address_note>(try open("host_addresses"), name: "host_addresses")
        let clientAddresses = try PerCPUMap<address_note>(
            try open("client_addresses"), name: "client_addresses")
        let arrivals = try PerCPUMap<arrival>(try open("arrivals"), name: "arrivals")
        let reasonCounters = try PerCPUMap<UInt64>(try open("reason_counters"), name: "reason_counters")
        let xdpOutputs = try Map<UInt32, UInt32>(try open("xdp_outputs"), name: "xdp_outputs")
        let peerOutputs = try Map<UInt32, UInt32>(try open("peer_outputs"), name: "peer_outputs")
        let bridgePorts = try Map<UInt32, bridge_port>(try open("bridge_ports"), name: "bridge_ports")
        let bridgePortDevices = try Map<UInt32, UInt32>(
            try open("bridge_port_devices"), name: "bridge_port_devices")
        let bridgeStations = try Map<station_key, UInt32>(try open("bridge_stations"), name: "bridge_stations")
        let fragmentNotes = try Map<fragment_key, fragment_note>(try open("fragment_notes"), name: "fragment_notes")
        let fragmentQueues = try Map<fragment_key, fragment_queue>(
            try open("fragment_queues"), name: "fragment_queues")
        self.index = index
        self.flows = flows
        self.slots = slots
        self.gauges = gauges
        self.settings = settings
        self.mappings = mappings
        self.ranges = ranges
        self.sources = sources
        self.owners = owners
        self.masquerades = masquerades
        self.exemptions = exemptions
        self.limits = limits
        self.limitCounts = limitCounts
        self.limitDues = limitDues
        self.sourceCounts = sourceCounts
        self.mappingCounters = mappingCounters
        self.hops = hops
        self.hostAddresses = hostAddresses
        self.clientAddresses = clientAddresses
        self.arrivals = arrivals
        self.reasonCounters = reasonCounters
        self.xdpOutputs = xdpOutputs
        self.peerOutputs = peerOutputs
        self.bridgePorts = bridgePorts
        self.bridgePortDevices = bridgePortDevices
        self.bridgeStations = bridgeStations
        self.fragmentNotes = fragmentNotes
        self.fragmentQueues = fragmentQueues
    }

    /// The settings, which every loaded datapath has.
    func currentSettings() throws(BPFError) -> settings {
        try settings.value(0) ?? CDatapath.settings()
    }

    /// The constants that fit these maps.
    func layoutConstants() throws(BPFError) -> layout {
        layout(seed: try currentSettings().hash_seed, buckets: index.capacity, slotWords: slots.capacity)
    }
}

extension layout {
    /// The keys of the hash are drawn from `seed`: whoever loads programs on the same maps later draws the same.
    init(seed: UInt64, buckets: UInt32, slotWords: UInt32) {
        var state = seed
        func draw() -> UInt64 {
            // SplitMix64: each output looks random, and no two of a seed are alike.
            state &+= 0x9e37_79b9_7f4a_7c15
            var word = state
            word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
            word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
            return word ^ word >> 31
        }
        self.init(
            hash_keys: (draw(), draw(), draw(), draw(), draw(), draw()), bucket_mask: buckets - 1,
            slot_word_mask: slotWords - 1, second_ticks: Self.ticksOfSecond, zero: 0
        )
    }

    /// The kernel's CONFIG_HZ: its coarse clocks move with its ticks.
    private static var ticksOfSecond: UInt32 {
        var tick = timespec()
        clock_getres(CLOCK_MONOTONIC_COARSE, &tick)
        return UInt32(1_000_000_000 / max(tick.tv_nsec, 1_000_000))
    }
}
