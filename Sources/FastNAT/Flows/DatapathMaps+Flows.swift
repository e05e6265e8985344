internal import BPF
internal import CDatapath

extension DatapathMaps {
    /// The flows that live now: those that live all the while are in it once, others may be missed.
    func currentFlows() throws(BPFError) -> [Flow] {
        let words = try MappedArray(slots)
        let records = try MappedArray(flows)
        let timeouts = Timeouts(try currentSettings().timeouts)
        let now = monotonicNow()
        var flows: [Flow] = []
        for number in 0..<words.count {
            var word = words[number]
            while word != 0 {
                let slot = number * 64 + word.trailingZeroBitCount
                word &= word - 1
                if let flow = Self.read(slot, of: records, now: now, timeouts: timeouts) { flows.append(flow) }
            }
        }
        return flows
    }

    /// A record changes while it is read; one whose generation changed meanwhile was two flows.
    private static func read(
        _ slot: Int, of records: borrowing MappedArray<flow_pair>, now: UInt64, timeouts: Timeouts
    ) -> Flow? {
        let pair = records[slot / 2]
        let record = pair.record(slot)
        guard let flow = Flow(record, next: pair.record(slot | 1), now: now, timeouts: timeouts),
            records[slot / 2].record(slot).state.generation == record.state.generation
        else { return nil }
        return flow
    }
}
