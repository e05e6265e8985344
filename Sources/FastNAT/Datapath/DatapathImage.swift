internal import BPF
internal import CDatapath

/// The programs of the datapath, by their functions' names, which are also the names of their pins.
enum DatapathProgram: String, CaseIterable {
    case uplink = "fastnat_uplink"
    case container = "fastnat_container"
    case port = "fastnat_port"
    case host = "fastnat_host"
    case begin = "fastnat_begin"
    case outbound = "fastnat_outbound"
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
    /// Loads everything anew. Tests load it as for a kernel that lets no program see the state of checksums, too.
    static func loadFresh(_ size: FlowTableSize, seed: UInt64, seesChecksumStates: Bool = true) throws(BPFError)
        -> LoadedObject
    {
        var image = try open()
        if seesChecksumStates { try showChecksumStates(to: &image) }
        try image.setCapacity(of: "flow_index", size.buckets)
        try image.setCapacity(of: "flows", size.pairs)
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
        try showChecksumStates(to: &image)
        for name in DatapathMaps.names { try image.reuse(try open(name), as: name) }
        try image.setConstants(try maps.layoutConstants())
        let object = try image.load()
        try enterStages(of: object)
        return object
    }

    /// Whether the kernel lets programs see the state of a socket buffer's checksum (Linux 6.2, with BTF).
    static var seesChecksumStates: Bool {
        #if arch(x86_64) || arch(arm64)  // little-endian; other JIT compilers cannot all have programs call the kernel's functions
            return pathExists(KernelTypes.path) && Requirements.kernelVersion() ?? (0, 0) >= (6, 2)
        #else
            return false
        #endif
    }

    /// Where it does, programs move checksums themselves; otherwise helpers do, which takes longer
    /// (docs/decisions/0025-fewer-calls.md).
    private static func showChecksumStates(to image: inout ObjectImage) throws(BPFError) {
        guard seesChecksumStates, let types = KernelTypes(), let cast = types.function("bpf_cast_to_kern_ctx"),
            let place = types.bitField("ip_summed", of: "sk_buff")
        else { return }
        try image.setConstants(checksum_state_place(offset: place / 8, shift: place % 8), in: ".rodata.kernel")
        try image.replaceHelper(UInt32(KERNEL_CAST_PLACEHOLDER), byKernelFunction: cast)
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
        for (stage, name) in [(STAGE_BEGIN, DatapathProgram.xdpBegin), (STAGE_KNOWN, .xdp)] {
            let program = try object.program(name.rawValue)
            try stagesAtXDP.set(stage.rawValue, UInt32(program.number))
        }
    }

    private static func open() throws(BPFError) -> ObjectImage {
        var size = 0
        let start = fastnat_datapath_object(&size)
        return try ObjectImage(
            UnsafeRawBufferPointer(start: start, count: size), name: "fastnat", threads: min(processorCount, 8))
    }
}
