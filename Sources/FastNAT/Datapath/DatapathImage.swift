internal import BPF
internal import CDatapath

/// The programs of the datapath, by their functions' names, which are also the names of their pins.
enum DatapathProgram: String, CaseIterable {
    case uplink = "fastnat_uplink"
    case container = "fastnat_container"
    case port = "fastnat_port"
    case host = "fastnat_host"
    case begin = "fastnat_begin"
    case admit = "fastnat_admit"
    case route = "fastnat_route"
    case translate = "fastnat_translate"
    case echo = "fastnat_echo"
    case icmp = "fastnat_icmp"
    case report = "fastnat_report"
    case fragment = "fastnat_fragment"
    case cut = "fastnat_cut"
    case reset = "fastnat_reset"
    case xdp = "fastnat_xdp"
    case xdpBegin = "fastnat_xdp_begin"
    case armSweep = "fastnat_arm_sweep"
    case flush = "fastnat_flush"
}

/// Builds the datapath that is in this binary: maps of the right sizes, constants that fit them, programs.
struct DatapathImage {
    /// Loads everything anew.
    static func loadFresh(_ size: FlowTableSize, seed: UInt64) throws(BPFError) -> LoadedObject {
        var image = try open()
        try image.setCapacity(of: "flow_index", size.buckets)
        try image.setCapacity(of: "flows", size.slots)
        try image.setCapacity(of: "flow_slots", size.slotWords)
        try image.setCapacity(of: "source_counts", size.sourceBuckets)
        try image.setConstants(
            layout(seed: seed, buckets: size.buckets, slotWords: size.slotWords))
        let object = try image.load()
        try enterStages(of: object)
        return object
    }

    /// Loads the programs on maps that exist already.
    static func load(on maps: borrowing DatapathMaps, _ open: (String) throws(BPFError) -> Descriptor)
        throws(BPFError) -> LoadedObject
    {
        var image = try self.open()
        for name in DatapathMaps.names { try image.reuse(try open(name), as: name) }
        try image.setConstants(try maps.layoutConstants())
        let object = try image.load()
        try enterStages(of: object)
        return object
    }

    /// Lets the attached programs hand packets to the others. Those that are attached already, of an earlier load, do so at
    /// once: the stages take the same notes as long as ABI_VERSION is the same.
    private static func enterStages(of object: borrowing LoadedObject) throws(BPFError) {
        let stages = try Map<UInt32, UInt32>(object.map("stages"), name: "stages")
        for stage in 0..<STAGE_COUNT.rawValue {
            let program = try object.program(String(cString: fastnat_stage_program(stage)))
            try stages.set(stage, UInt32(program.number))
        }
        let stagesAtXDP = try Map<UInt32, UInt32>(object.map("xdp_stages"), name: "xdp_stages")
        let program = try object.program(DatapathProgram.xdpBegin.rawValue)
        try stagesAtXDP.set(0, UInt32(program.number))
    }

    private static func open() throws(BPFError) -> ObjectImage {
        var size = 0
        let start = fastnat_datapath_object(&size)
        return try ObjectImage(UnsafeRawBufferPointer(start: start, count: size), name: "fastnat")
    }
}
