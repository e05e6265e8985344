import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Packets come in trains: at XDP, one behind two others of its flow gets what they got (`bpf/pipeline/train.h`). That it is the
/// same as without a train, whatever the packet, is what LaneTests show.
@Suite struct TrainTests {
    /// A protocol and a direction.
    struct Line: Sendable, CustomTestStringConvertible {
        let transport: Transport
        let side: Side
        var testDescription: String { "\(transport) from \(side == .uplink ? "the client" : "the target")" }

        static let all = [Transport.tcp, .udp].flatMap { transport in
            [Side.uplink, .container].map { Line(transport: transport, side: $0) }
        }

        func frame(_ conversation: Conversation) -> [UInt8] {
            side == .uplink
                ? conversation.request(payload: [UInt8](1...20)).bytes
                : conversation.reply(payload: [UInt8](1...20)).bytes
        }
    }

    /// An open flow, and a packet of it.
    private func opened(_ line: Line) throws -> (datapath: TestDatapath, frame: [UInt8]) {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, line.transport)
        try datapath.open(conversation)
        return (datapath, line.frame(conversation))
    }

    private func isOfTrain(_ train: PooledDatapath.Clock, _ frame: [UInt8], in datapath: TestDatapath, _ line: Line)
        throws -> Bool
    {
        try datapath.goesWithTrain(frame, train, on: line.side)
    }

    @Test(arguments: Line.all)
    func `two packets of a flow make a train, until the next tick`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let one = try #require(try datapath.clock(behind: .init(), frame, on: line.side))
        #expect(one.train.last != 0 && one.train.until == 0)
        let two = try #require(try datapath.clock(behind: one, frame, on: line.side))
        #expect(two.train.entry == one.train.last && two.train.last == one.train.last)
        #expect(two.train.until == two.tick + 1 || two.train.until == two.tick + 2)  // a tick between
        let index = try MappedArray(datapath.maps.index)
        let entries = withUnsafeBytes(of: index[Int(two.train.bucket)]) { Array($0.bindMemory(to: UInt64.self)) }
        #expect(entries[Int(two.train.place)] == two.train.entry)
    }

    @Test(arguments: Line.all)
    func `a packet of a train gets what those before it got, and is counted`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        var train = try datapath.train(behindTwoOf: frame, on: line.side)
        (train.streakOnUplinks, train.train.last) = (2, 0)
        #expect(try isOfTrain(train, frame, in: datapath, line))
        let before = try #require(try datapath.datapath.flows().first)
        let mapping = UInt32(try #require(try datapath.liveRecords().first).record.original.mapping_id)
        let countedBefore = try datapath.maps.counters(of: mapping)
        let outcome = try datapath.outcome(of: frame, behind: train, on: line.side)
        #expect(outcome.verdict == .redirected && outcome.counted == [:])
        let after = try #require(try datapath.datapath.flows().first)
        let length = UInt64(frame.count - 14)
        let halves = line.side == .uplink ? (before.original, after.original) : (before.reply, after.reply)
        #expect(halves.1.packets == halves.0.packets + 1 && halves.1.bytes == halves.0.bytes + length)
        let counted = try datapath.maps.counters(of: mapping)
        #expect(counted.packets == countedBefore.packets + 1 && counted.bytes == countedBefore.bytes + length)
        // Nothing was looked up, and no flow begun.
        #expect(try datapath.clocks().contains { $0.train == train.train && $0.streakOnUplinks == 0 })
    }

    /// What is changed behind a train's back.
    enum Change: CaseIterable {
        case tick, entry, word, mapping, refreshed, expired, hopSequence, hopInterface, mtu

        func make(_ train: inout PooledDatapath.Clock) {
            switch self {
            case .tick: train.train.until = 1
            case .entry: train.train.entry ^= 1 << 24  // of the next generation
            case .word: train.train.state ^= 1
            case .mapping: train.train.state ^= 1 << 48
            case .refreshed: train.train.refreshed &+= 1
            case .expired: train.train.refreshed = 0
            case .hopSequence: train.train.sequence &+= 2
            case .hopInterface: train.train.interface &+= 1
            case .mtu: train.train.mtu = 47  // a byte less than the packet has
            }
        }
    }

    @Test(arguments: Line.all, Change.allCases)
    func `a train ends with whatever changes of its flow, its next hop or the time`(line: Line, change: Change) throws {
        let (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, on: line.side)
        let expected = try datapath.outcome(of: frame, behind: train, on: line.side)
        var other = train
        // Where it went by the train, it would get this.
        other.train.newPorts ^= 0xffff_ffff
        change.make(&other)
        try datapath.setClocks(other)
        let outcome = try datapath.outcome(of: frame, at: .xdp, on: line.side, refreshing: false)
        #expect(outcome.verdict == .redirected && outcome.packet == expected.packet)
    }

    /// Each part of a tuple, and the protocol, in turns with what it differs from.
    @Test(arguments: Line.all)
    func `a packet of another flow is none of the train`(line: Line) throws {
        let datapath = try TestDatapath(
            Family.ipv4.standardMappings + ["8090/tcp", "8090/udp"].map { Family.ipv4.mapping($0, to: "90") })
        let conversation = Conversation(.ipv4, line.transport)
        let others = [
            conversation.with {
                ($0.client.address, $0.clientMAC) = (Family.ipv4.farClient, TestNetwork.gatewayMAC)
            },
            conversation.with { $0.client.port += 1 },
            conversation.with { ($0.published.port, $0.target.port) = (8090, 90) },
            Conversation(.ipv4, line.transport == .tcp ? .udp : .tcp),
        ]
        let trains = try ([conversation] + others).map { conversation in
            try datapath.open(conversation)
            let frame = line.frame(conversation)
            return (frame, try datapath.train(behindTwoOf: frame, on: line.side))
        }
        #expect(Set(trains.map(\.1.train.entry)).count == trains.count)
        for (number, (frame, _)) in trains.enumerated() {
            for (other, (_, train)) in trains.enumerated() {
                #expect(try isOfTrain(train, frame, in: datapath, line) == (number == other))
                try datapath.setClocks(train)
                #expect(try datapath.outcome(of: frame, at: .xdp, on: line.side).verdict == .redirected)
            }
        }
    }

    @Test(arguments: Line.all)
    func `a packet to another MAC address is none of the train`(line: Line) throws {
        var (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, on: line.side)
        for place in 0..<6 {
            frame[place] ^= 1
            #expect(try datapath.outcome(of: frame, behind: train, on: line.side).verdict == .passed)
            frame[place] ^= 1
        }
        #expect(try datapath.outcome(of: frame, behind: train, on: line.side).verdict == .redirected)
    }

    @Test(arguments: Line.all)
    func `a packet behind the last of a flow does not go by that`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, on: line.side)
        #expect(try datapath.datapath.flushFlows() == 1)
        #expect(try datapath.outcome(of: frame, behind: train, on: line.side).verdict == .passed)
        #expect(try datapath.datapath.flows().isEmpty)
    }

    @Test(arguments: Line.all.filter { $0.transport == .tcp })
    func `a connection that is cut has no train`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, on: line.side)
        try datapath.datapath.removeAllMappings(ending: .cut)
        try datapath.setClocks(train)
        let outcome = try datapath.outcome(of: frame, at: .xdp, on: line.side, refreshing: false)
        #expect(outcome.verdict == .passed && outcome.packet == frame)
    }

    /// It could change what the flow is like: such a packet is not to be taken for one that does not.
    @Test(arguments: Line.all.filter { $0.transport == .tcp })
    func `a connection that is not open yet has no train`(line: Line) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, .tcp)
        try datapath.open(conversation)
        let frame = line.frame(conversation)
        for (slot, record) in try datapath.liveRecords() {
            var flow = record
            (flow.original.word, flow.reply.word) = (
                flow.original.word & ~SEEN_OPEN.rawValue & ~SEEN_ACK.rawValue,
                flow.reply.word & ~SEEN_OPEN.rawValue & ~SEEN_SYN.rawValue
            )
            try datapath.maps.setRecord(slot, flow)
        }
        var bare = frame
        bare[47] = 0  // no ACK: opens nothing
        let one = try #require(try datapath.clock(behind: .init(), bare, on: line.side))
        let two = try datapath.clock(behind: one, bare, on: line.side)
        #expect((two ?? one).train.until == 0)
    }

    /// Such a packet would find no train to be of, each time.
    @Test func `packets without a checksum, or nearly without payload, make no train`() throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, .udp)
        try datapath.open(conversation)
        var unsummed = conversation.request(payload: [UInt8](1...20)).bytes
        (unsummed[40], unsummed[41]) = (0, 0)
        for frame in [unsummed, conversation.request(payload: [1]).bytes] {
            let one = try #require(try datapath.clock(behind: .init(), frame))
            #expect(try datapath.clock(behind: one, frame) == nil)
        }
    }
}
