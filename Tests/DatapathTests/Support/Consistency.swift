import BPF
import CDatapath
import Foundation
import Testing

@testable import FastNAT

extension TestDatapath {
    /// Checks what must hold whenever no packet is under way: gauges, slots, index, records and counters agree, and
    /// each tuple is in the index once, in one of its three buckets.
    func expectConsistent(originals: Int? = nil, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let flows = try datapath.flows()
        let count = try datapath.flowCount()
        #expect(count.flows == flows.count, sourceLocation: sourceLocation)
        let records = try liveRecords().map(\.record)
        #expect(records.count == flows.count, sourceLocation: sourceLocation)
        let taken = records.reduce(0) { $0 + ($1.isWide ? 2 : 1) }
        #expect(try liveSlots().count == taken, sourceLocation: sourceLocation)
        let halfOpen = records.count { UInt32($0.state.phase) == FLOW_HALF_OPEN.rawValue }
        #expect(count.halfOpen == halfOpen, sourceLocation: sourceLocation)
        if let originals { #expect(flows.count == originals, sourceLocation: sourceLocation) }
        let counted = try datapath.mappings().map(\.flows) + datapath.masquerades { "#\($0)" }.map(\.flows)
        let endpoints = flows.count { $0.state == .endpoint }
        #expect(counted.reduce(endpoints, +) == flows.count, sourceLocation: sourceLocation)
        var tuples: [Data: Int] = [:]
        var spilled = 0
        let index = try MappedArray(maps.index)
        for bucket in 0..<index.count {
            spilled += Int(index[bucket].spilled)
            for entry in withUnsafeBytes(of: index[bucket].entries, { Array($0.bindMemory(to: UInt64.self)) })
            where entry != 0 {
                let slot = UInt32(entry & 0xff_ffff)
                let record = try #require(try maps.record(slot))
                let tuple = try tuple(slot, entry >> 30 & 1 == 0 ? .original : .reply)
                tuples[withUnsafeBytes(of: tuple) { Data($0) }, default: 0] += 1
                #expect(
                    entry >> 24 & 0x3f == UInt64(record.state.generation & 0x3f), sourceLocation: sourceLocation)
            }
        }
        #expect(tuples.values.allSatisfy { $0 == 1 }, sourceLocation: sourceLocation)
        #expect(tuples.count == 2 * flows.count, sourceLocation: sourceLocation)
        #expect((0...2 * tuples.count).contains(spilled), sourceLocation: sourceLocation)
        try expectPlacesConsistent(sourceLocation)
    }

    /// Checks that the places that flows have are those that are taken.
    private func expectPlacesConsistent(_ sourceLocation: SourceLocation) throws {
        let flows = try liveRecords().map(\.record).filter { $0.flags & FLOW_PATTERN.rawValue == 0 }
        let counted = flows.filter { $0.flags & FLOW_COUNTED.rawValue != 0 }.map { Int($0.original.mapping_id) }
        let counts = try MappedArray(maps.limitCounts)
        let taken = (0..<counts.count).flatMap { [Int](repeating: $0, count: Int(counts[$0])) }
        #expect(taken == counted.sorted(), sourceLocation: sourceLocation)
        let sources = try MappedArray(maps.sourceCounts)
        let ofSources = (0..<sources.count).reduce(0) { sum, bucket in
            withUnsafeBytes(of: sources[bucket]) { bytes in
                bytes.bindMemory(to: UInt64.self).reduce(sum) { $0 + Int($1 & UInt64(FLOW_LIMIT_MAX.rawValue)) }
            }
        }
        let expected = flows.count { $0.flags & FLOW_COUNTED_BY_SOURCE.rawValue != 0 }
        #expect(ofSources == expected, sourceLocation: sourceLocation)
    }

    /// Sets the counters of reasons to zero.
    func clearCounters() throws {
        for reason in 0..<REASON_COUNT.rawValue { try maps.reasonCounters.setAll(reason, 0) }
    }
}
