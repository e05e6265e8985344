import CDatapath
import Testing

@testable import FastNAT

/// Trains of packets at XDP (`bpf/pipeline/train.h`).
extension TestDatapath {
    /// What the CPU knows that this frame has come to at XDP, when another one like it was the last on every CPU, or nil.
    func clock(
        behind first: PooledDatapath.Clock, _ frame: [UInt8], on side: Side = .uplink
    ) throws -> PooledDatapath.Clock? {
        try setClocks(first)
        _ = try outcome(of: frame, at: .xdp, on: side)
        return try clocks().first { $0.train != first.train }
    }

    /// What a CPU knows behind two packets of a flow, and forgets with no tick.
    func train(behindTwoOf frame: [UInt8], on side: Side = .uplink) throws -> PooledDatapath.Clock {
        let one = try #require(try clock(behind: .init(), frame, on: side))
        var two = try #require(try clock(behind: one, frame, on: side))
        two.train.until = .max
        return two
    }

    /// Sends a frame that comes to a CPU behind this train, of whose flow nothing has changed but the time.
    func outcome(of frame: [UInt8], behind train: PooledDatapath.Clock, on side: Side = .uplink) throws -> Outcome {
        var clock = train
        let flow = try #require(try maps.record(UInt32(train.train.entry & 0xff_ffff)))
        let isReply = train.train.entry >> 30 & 1 == 1
        clock.train.refreshed = isReply ? flow.reply.refreshed : flow.original.refreshed
        try setClocks(clock)
        return try outcome(of: frame, at: .xdp, on: side, refreshing: false)
    }

    /// Whether a frame gets what the train's packets get: which is to be seen where they get other ports than their flow's.
    func goesWithTrain(_ frame: [UInt8], _ train: PooledDatapath.Clock, on side: Side = .uplink) throws -> Bool {
        let others: [UInt8] = [0xab, 0xcd, 0xef, 0x01]
        var clock = train
        clock.train.newPorts = others.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
        let outcome = try outcome(of: frame, behind: clock, on: side)
        return outcome.verdict == .redirected && Array(outcome.packet[34..<38]) == others
    }
}
