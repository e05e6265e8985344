internal import CDatapath

extension flow_pair {
    /// The record of one of its two flows: that of an even slot, or of the one after it.
    func record(_ slot: Int) -> flow {
        withUnsafeBytes(of: self) {
            $0.loadUnaligned(fromByteOffset: slot % 2 * Int(FLOW_PART_BYTES), as: flow.self)
        }
    }
}
