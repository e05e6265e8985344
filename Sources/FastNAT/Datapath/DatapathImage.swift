internal import BPF
internal import CDatapath

/// The programs of the datapath, by their functions' names, which are also the names of their pins.
enum DatapathProgram: String, CaseIterable {
    case uplink = "fastnat_uplink"
    case container = "fastnat_container"
    case xdp = "fastnat_xdp"
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
        try image.setConstants(
            layout(hash_seed: seed, bucket_mask: size.buckets - 1, slot_word_mask: size.slotWords - 1))
        return try image.load()
    }

    /// Loads the programs on maps that exist already.
    static func load(on maps: borrowing DatapathMaps, _ open: (String) throws(BPFError) -> Descriptor)
        throws(BPFError) -> LoadedObject
    {
        var image = try self.open()
        for name in DatapathMaps.names { try image.reuse(try open(name), as: name) }
        try image.setConstants(try maps.layoutConstants())
        return try image.load()
    }

    private static func open() throws(BPFError) -> ObjectImage {
        var size = 0
        let start = fastnat_datapath_object(&size)
        return try ObjectImage(UnsafeRawBufferPointer(start: start, count: size), name: "fastnat")
    }
}
