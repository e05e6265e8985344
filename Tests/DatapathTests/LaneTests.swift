import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// The fast lane (`bpf/pipeline/lane.h`) does with a packet what the pipeline does, or leaves it to that, and so does a train
/// (`bpf/pipeline/train.h`). The lane can be closed: so one test run shows what the pipeline does, others what both do.
@Suite struct LaneTests {
    private func opened(_ line: Line) throws -> (datapath: TestDatapath, frame: [UInt8]) {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, line.transport)
        try datapath.open(conversation)
        try datapath.setNextHops(.fresh)
        return (datapath, line.frame(conversation))
    }

    /// A report to the sender has an identification of its own, and so a checksum.
    private func comparable(_ packet: [UInt8], of frame: [UInt8]) -> [UInt8] {
        var packet = packet
        guard packet.count > 26, packet[23] == 1, frame[23] != 1 else { return packet }
        for place in [18, 19, 24, 25] { packet[place] = 0 }
        return packet
    }

    /// A streak that is longer than any closes the lane, and has nothing expected.
    private static let closed: UInt32 = 3

    /// With the lane closed, and open.
    private static let clocks = [
        PooledDatapath.Clock(streakOnUplinks: closed, streakOfContainers: closed), PooledDatapath.Clock(),
    ]

    /// What flows have counted: packets and bytes.
    private func counted(in datapath: TestDatapath) throws -> SIMD2<UInt64> {
        try datapath.datapath.flows().flatMap { [$0.original, $0.reply] }
            .map { SIMD2($0.packets, $0.bytes) }.reduce(SIMD2(), &+)
    }

    /// What becomes of a frame, and what its flow counts, with the lane closed, open, and behind a train.
    private func expectAlike(
        _ datapath: TestDatapath, _ frame: [UInt8], _ line: Line, _ comment: String,
        after train: PooledDatapath.Clock, sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Outcome {
        var outcomes: [Outcome] = []
        var packets: [SIMD2<UInt64>] = []
        let runs: [() throws -> Outcome] =
            Self.clocks.map { clock in
                {
                    try datapath.setNextHops(.fresh)
                    try datapath.setClocks(clock)
                    return try datapath.outcome(of: frame, at: line.hook, on: line.side)
                }
            }
            + [{ try datapath.outcome(of: frame, behind: train, line) }]
        for run in runs {
            let before = try counted(in: datapath)
            outcomes.append(try run())
            packets.append(try counted(in: datapath) &- before)
        }
        let contents = outcomes.map { outcome in comparable(outcome.packet, of: frame) }
        for turn in 1..<outcomes.count {
            #expect(outcomes[0].verdict == outcomes[turn].verdict, "\(comment)", sourceLocation: sourceLocation)
            #expect(contents[0] == contents[turn], "\(comment)", sourceLocation: sourceLocation)
            #expect(outcomes[0].counted == outcomes[turn].counted, "\(comment)", sourceLocation: sourceLocation)
            #expect(packets[0] == packets[turn], "\(comment)", sourceLocation: sourceLocation)
        }
        return outcomes[1]
    }

    /// What packets behind this one meet.
    private func train(of frame: [UInt8], _ line: Line, in datapath: TestDatapath) throws -> PooledDatapath.Clock {
        let train = try datapath.train(behindTwoOf: frame, line)
        #expect(try datapath.goesWithTrain(frame, train, line))
        return train
    }

    @Test(arguments: Line.all)
    func `each byte of the headers, whatever it is`(line: Line) throws {
        var random = Generator(seed: 23)
        let (datapath, frame) = try opened(line)
        let train = try train(of: frame, line, in: datapath)
        #expect(try expectAlike(datapath, frame, line, "as it was", after: train).verdict == .redirected)
        let ports = 34..<38
        var forwarded = 0
        for place in 12..<(line.transport == .tcp ? 54 : 42) where !ports.contains(place) {
            for value in [0, 1, 0x7f, 0x80, 0xff, UInt8.random(in: 0...255, using: &random)] {
                // What begins or ends the connection makes the second run another one than the first.
                if line.transport == .tcp && place == 47 && value & 0x07 != 0 { continue }
                // Addresses of other flows, which the first run would begin.
                if (26..<34).contains(place) && frame[place] != value { continue }
                var other = frame
                other[place] = value
                let outcome = try expectAlike(datapath, other, line, "byte \(place) is \(value)", after: train)
                if outcome.verdict == .redirected { forwarded += 1 }
            }
        }
        #expect(forwarded > 30)
    }

    @Test(arguments: Line.all)
    func `lengths of the frame and of its headers`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let train = try train(of: frame, line, in: datapath)
        for length in 34...frame.count {
            _ = try expectAlike(datapath, Array(frame.prefix(length)), line, "\(length) bytes", after: train)
        }
        for longer in [1, 3, 20, 100] {
            let padded = frame + [UInt8](repeating: 0, count: longer)
            #expect(try expectAlike(datapath, padded, line, "\(longer) more", after: train).verdict == .redirected)
        }
        for length in 0...(frame.count - 14 + 2) {
            var other = frame
            (other[16], other[17]) = (UInt8(length >> 8), UInt8(length & 0xff))
            _ = try expectAlike(datapath, other, line, "total length \(length)", after: train)
        }
    }

    @Test(
        arguments: Line.all.filter { $0.transport == .tcp },
        [0x10, 0x18, 0x30, 0x11, 0x14, 0x02, 0x12, 0x00] as [UInt8])
    func `what TCP says of its connection`(line: Line, flags: UInt8) throws {
        var states: [[FlowState]] = []
        var outcomes: [Outcome.Verdict] = []
        for streak in [Self.closed, 0] {
            var (datapath, frame) = try opened(line)
            frame[47] = flags
            try datapath.setStreaks(streak)
            outcomes.append(try datapath.outcome(of: frame, at: line.hook, on: line.side).verdict)
            states.append(try datapath.states())
        }
        var (datapath, frame) = try opened(line)
        let train = try train(of: frame, line, in: datapath)
        frame[47] = flags
        outcomes.append(try datapath.outcome(of: frame, behind: train, line).verdict)
        states.append(try datapath.states())
        #expect(Set(outcomes.map(String.init(describing:))).count == 1)
        #expect(states.allSatisfy { $0 == states[0] })
    }

    /// A part of a direction's tuple, as its record has it.
    static let parts: [@Sendable (inout flow, _ isReply: Bool) -> Void] = [
        { $1 ? ($0.reply_ends.source ^= 1) : ($0.original_ends.source ^= 1) },
        { $1 ? ($0.reply_ends.destination ^= 1) : ($0.original_ends.destination ^= 1) },
        { $1 ? ($0.reply_ends.source_port ^= 1) : ($0.original_ends.source_port ^= 1) },
        { $1 ? ($0.reply_ends.destination_port ^= 1) : ($0.original_ends.destination_port ^= 1) },
        { flow, _ in flow.state.kind = 17 },  // UDP,
    ]

    /// Hashes of two tuples can have the same tag.
    @Test(arguments: Line.all.filter { $0.transport == .tcp }, parts.indices)
    func `an entry with the packet's tag, whose flow has another tuple, is not the packet's`(line: Line, part: Int)
        throws
    {
        let (datapath, frame) = try opened(line)
        let (slot, record) = try #require(try datapath.liveRecords().first)
        var other = record
        Self.parts[part](&other, line.side == .container)
        try datapath.maps.setRecord(slot, other)
        for clock in Self.clocks {
            try datapath.setClocks(clock)
            let outcome = try datapath.outcome(of: frame, at: line.hook, on: line.side)
            #expect(outcome.verdict == .passed && outcome.packet == frame)
            // What refreshes next hops for XDP writes what it has read.
            #expect(try datapath.maps.record(slot)?.original.packets == record.original.packets)
        }
        try datapath.maps.setRecord(slot, record)
        try datapath.setNextHops(.fresh)
        #expect(try datapath.outcome(of: frame, at: line.hook, on: line.side).verdict == .redirected)
    }

    /// An entry that is free has the tag of a packet whose hash begins with 32 zeros.
    @Test(arguments: Line.all.filter { $0.transport == .tcp })
    func `an entry that is not in use leads nowhere`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let index = try MappedArray(datapath.maps.index)
        let isUsed: UInt64 = 1 << 31
        let buckets = (0..<index.count).filter { number in
            withUnsafeBytes(of: index[number].entries) { $0.bindMemory(to: UInt64.self).contains { $0 & isUsed != 0 } }
        }
        let kept = buckets.map { (UInt32($0), index[$0]) }
        for (number, bucket) in kept {
            var unused = bucket
            withUnsafeMutableBytes(of: &unused.entries) { bytes in
                for entry in bytes.bindMemory(to: UInt64.self).indices {
                    bytes.bindMemory(to: UInt64.self)[entry] &= ~isUsed
                }
            }
            try datapath.maps.index.set(number, unused)
        }
        for clock in Self.clocks {
            try datapath.setClocks(clock)
            #expect(try datapath.outcome(of: frame, at: line.hook, on: line.side).verdict == .passed)
        }
        for (number, bucket) in kept { try datapath.maps.index.set(number, bucket) }
        try datapath.setNextHops(.fresh)
        #expect(try datapath.outcome(of: frame, at: line.hook, on: line.side).verdict == .redirected)
    }
}
