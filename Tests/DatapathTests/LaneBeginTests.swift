import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// What a client's frame that is expected to begin a flow gets by the fast lane (`lane_begin`, `bpf/pipeline/lane.h`) it gets by
/// the pipeline, too.
@Suite struct LaneBeginTests {
    /// What became of a frame.
    private struct Result: Equatable {
        var verdict: Outcome.Verdict
        var packet: [UInt8]
        var counted: [String]
        var flows: [String]
    }

    /// The streak after which the pipeline looks for a packet's flow, and the one after which it is expected to begin one.
    private static let streaks: [UInt32] = [3, 2]

    /// A datapath that has been told the way to its target, and knows no flow.
    private struct Stage {
        let datapath: TestDatapath
        let mapping: Int
        /// Begins a flow.
        let frame: [UInt8]

        init(_ transport: Transport) throws {
            datapath = try TestDatapath(Family.ipv4.standardMappings)
            let conversation = Conversation(.ipv4, transport)
            try datapath.open(conversation)
            mapping = Int(try #require(try datapath.liveRecords().first).record.original.mapping_id)
            _ = try datapath.datapath.flushFlows()
            frame = conversation.request(.syn, payload: [UInt8](1...20)).bytes
        }

        /// Has it have been told just now.
        func refresh(at hook: Hook) throws {
            try datapath.noteArrivals(.ipv4, at: hook)
            let now = UInt32(truncatingIfNeeded: monotonicNow() >> 20)
            datapath.maps.hops[mapping].refreshed = now &- NextHopAge.fresh.rawValue
        }
    }

    private func result(of frame: [UInt8], on stage: Stage, _ hook: Hook, streak: UInt32, gsoSize: UInt32) throws
        -> Result
    {
        let datapath = stage.datapath
        try stage.refresh(at: hook)
        try datapath.setStreaks(streak)
        let outcome = try datapath.outcome(of: frame, at: hook, gsoSize: gsoSize)
        let flows = try datapath.datapath.flows().map {
            "\($0.original.source) \($0.state) \($0.original.packets) \($0.original.bytes) \($0.reply.packets)"
        }
        _ = try datapath.datapath.flushFlows()
        // A report to the sender has an identification of its own.
        let isReport = outcome.packet.count > 26 && outcome.packet[23] == 1 && frame[23] != 1
        return Result(
            verdict: outcome.verdict, packet: isReport ? [] : outcome.packet,
            counted: outcome.counted.map { "\($0)" }.sorted(), flows: flows)
    }

    /// Expects that it makes no difference whether a frame is expected to begin a flow. Whether it does.
    private func expectAlike(
        _ frame: [UInt8], on stage: Stage, _ hook: Hook, gsoSize: UInt32 = 0, _ comment: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Bool {
        let results = try Self.streaks.map {
            try result(of: frame, on: stage, hook, streak: $0, gsoSize: gsoSize)
        }
        #expect(results[0] == results[1], "\(comment)", sourceLocation: sourceLocation)
        return results[0].flows.count == 1
    }

    @Test(arguments: Hook.allCases, Transport.allCases)
    func `each byte of the headers, whatever it is`(hook: Hook, transport: Transport) throws {
        var random = Generator(seed: 29)
        let stage = try Stage(transport)
        var begun = 0
        for place in 12..<(transport == .tcp ? 54 : 42) {
            for value in [0, 1, 0x80, 0xff, UInt8.random(in: 0...255, using: &random)] {
                var other = stage.frame
                other[place] = value
                if try expectAlike(other, on: stage, hook, "byte \(place) is \(value)") { begun += 1 }
            }
        }
        #expect(begun > 60)
    }

    @Test(arguments: Hook.allCases, Transport.allCases)
    func `lengths of the frame and of its headers`(hook: Hook, transport: Transport) throws {
        let stage = try Stage(transport)
        let frame = stage.frame
        for length in 34...frame.count {
            _ = try expectAlike(Array(frame.prefix(length)), on: stage, hook, "\(length) bytes")
        }
        #expect(try expectAlike(frame + [0, 0, 0], on: stage, hook, "padded"))
        for length in 0...(frame.count - 14 + 2) {
            var other = frame
            (other[16], other[17]) = (UInt8(length >> 8), UInt8(length & 0xff))
            _ = try expectAlike(other, on: stage, hook, "total length \(length)")
        }
    }

    @Test(arguments: Transport.allCases)
    func `packets whose segments become frames`(transport: Transport) throws {
        let stage = try Stage(transport)
        let long = Conversation(.ipv4, transport).request(.syn, payload: [UInt8](repeating: 1, count: 3_000)).bytes
        #expect(try expectAlike(long, on: stage, .tc, gsoSize: 1_400, "segments that fit"))
        #expect(try !expectAlike(long, on: stage, .tc, gsoSize: 1_490, "segments that do not"))
    }
}
