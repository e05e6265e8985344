import BPF
import CDatapath

@testable import FastNAT

extension DatapathMaps {
    /// How many records there are.
    var slotCount: UInt32 { flows.capacity * 2 }

    /// The record of a slot.
    func record(_ slot: UInt32) throws -> flow? { try flows.value(slot / 2)?.record(Int(slot)) }

    /// Writes the record of a slot, and leaves the other one of its pair alone.
    func setRecord(_ slot: UInt32, _ record: flow) throws {
        guard var pair = try flows.value(slot / 2) else { return }
        let part = Int(FLOW_PART_BYTES)
        withUnsafeMutableBytes(of: &pair) { pair in
            withUnsafeBytes(of: record) { record in
                for begin in stride(from: 0, to: record.count, by: 2 * part) {
                    let place = begin + Int(slot) % 2 * part
                    pair[place..<place + part].copyBytes(from: record[begin..<begin + part])
                }
            }
        }
        try flows.set(slot / 2, pair)
    }
}
