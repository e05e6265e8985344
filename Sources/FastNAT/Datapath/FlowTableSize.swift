internal import CDatapath

/// How large the maps of the flow table are for a number of flows.
struct FlowTableSize: Hashable {
    /// Flows at most.
    let flows: UInt32
    /// Flow records: a power of two.
    let slots: UInt32

    init(flows: Int) throws(FastNATError) {
        guard (1024...Int(MAX_FLOWS_LIMIT.rawValue)).contains(flows) else { throw .invalidFlowLimit(flows) }
        self.flows = UInt32(flows)
        self.slots = UInt32(flows.roundedUpToPowerOfTwo)
    }

    /// Records stand in pairs (bpf/abi/flow.h).
    var pairs: UInt32 { slots / 2 }

    /// Words of the bitmap of slots.
    var slotWords: UInt32 { slots / UInt32(SLOTS_PER_WORD.rawValue) }

    /// Two entries a flow, in buckets of seven with room for nearly twice as many: with three buckets to choose from, practically
    /// none ever overflows.
    var buckets: UInt32 { slots * 2 * 2 / UInt32(BUCKET_WORDS.rawValue) }

    /// Of sources with limits, as bpf/nat/limit.h has it: an entry a flow, so that all of different sources have room.
    var sourceBuckets: UInt32 { slots / UInt32(BUCKET_WORDS.rawValue) }

    /// Half-open flows at most.
    var halfOpen: UInt32 { flows / UInt32(HALF_OPEN_SHARE.rawValue) }
}

extension Int {
    var roundedUpToPowerOfTwo: Int { self <= 1 ? 1 : 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount) }
}
