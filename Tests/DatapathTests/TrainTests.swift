import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Packets come in trains: one behind two others of its flow gets what they got (`bpf/pipeline/train.h`). That it is the same
/// as without a train, whatever the packet, is what LaneTests show.
@Suite struct TrainTests {
    /// An open flow, and a packet of it.
    private func opened(_ line: Line) throws -> (datapath: TestDatapath, frame: [UInt8]) {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, line.transport)
        try datapath.open(conversation)
        return (datapath, line.frame(conversation))
    }

    @Test(arguments: Line.all)
    func `two packets of a flow make a train, until the next tick`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let one = try #require(try datapath.clock(behind: .init(), frame, line))
        #expect(one[line].last != 0 && one[line].until == 0)
        let two = try #require(try datapath.clock(behind: one, frame, line))
        #expect(two[line].entry == one[line].last && two[line].last == one[line].last)
        #expect(two[line].until == two.tick + 1 || two[line].until == two.tick + 2)  // a tick between
        let index = try MappedArray(datapath.maps.index)
        let entries = withUnsafeBytes(of: index[Int(two[line].bucket)]) { Array($0.bindMemory(to: UInt64.self)) }
        #expect(entries[Int(two[line].place)] == two[line].entry)
    }

    @Test(arguments: Line.all)
    func `a packet of a train gets what those before it got, and is counted`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        var train = try datapath.train(behindTwoOf: frame, line)
        (train.streakOnUplinks, train.streakOfContainers, train[line].last) = (2, 2, 0)
        #expect(try datapath.goesWithTrain(frame, train, line))
        let before = try #require(try datapath.datapath.flows().first)
        let mapping = UInt32(try #require(try datapath.liveRecords().first).record.original.mapping_id)
        let countedBefore = try datapath.maps.counters(of: mapping)
        let outcome = try datapath.outcome(of: frame, behind: train, line)
        #expect(outcome.verdict == .redirected && outcome.counted == [:])
        let after = try #require(try datapath.datapath.flows().first)
        let length = UInt64(frame.count - 14)
        let halves = line.side == .uplink ? (before.original, after.original) : (before.reply, after.reply)
        #expect(halves.1.packets == halves.0.packets + 1 && halves.1.bytes == halves.0.bytes + length)
        let counted = try datapath.maps.counters(of: mapping)
        #expect(counted.packets == countedBefore.packets + 1 && counted.bytes == countedBefore.bytes + length)
        // Nothing was looked up, and no flow begun.
        let isOfContainers = line.hook == .tc && line.side == .container
        #expect(
            try datapath.clocks().contains {
                $0[line].last == 0 && $0[line].until == .max
                    && (isOfContainers ? $0.streakOfContainers : $0.streakOnUplinks) == 0
            })
    }

    /// What is changed behind a train's back.
    enum Change: CaseIterable {
        case tick, entry, word, mapping, refreshed, expired, hopSequence, hopInterface, mtu, arrival

        func make(_ train: inout PooledDatapath.Train) {
            switch self {
            case .tick: train.until = 1
            case .entry: train.entry ^= 1 << 24  // of the next generation
            case .word: train.state ^= 1
            case .mapping: train.state ^= 1 << 48
            case .refreshed: train.refreshed &+= 1
            case .expired: train.refreshed = 0
            case .hopSequence: train.sequence &+= 2
            case .hopInterface: train.interface &+= 1
            case .mtu: train.mtu = 47  // a byte less than the packet has
            case .arrival: train.arrival ^= 1 << 40
            }
        }
    }

    @Test(arguments: Line.all, Change.allCases)
    func `a train ends with whatever changes of its flow, its next hop or the time`(line: Line, change: Change) throws {
        let (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, line)
        let expected = try datapath.outcome(of: frame, behind: train, line)
        var other = try datapath.refreshed(train.marked(line), line)
        change.make(&other[line])
        try datapath.setClocks(other)
        let outcome = try datapath.outcome(of: frame, at: line.hook, on: line.side, refreshing: false)
        #expect(outcome.verdict == .redirected && outcome.packet == expected.packet)
        #expect(try datapath.goesWithTrain(frame, train, line))
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
            return (frame, try datapath.train(behindTwoOf: frame, line))
        }
        #expect(Set(trains.map { $0.1[line].entry }).count == trains.count)
        for (number, (frame, _)) in trains.enumerated() {
            for (other, (_, train)) in trains.enumerated() {
                #expect(try datapath.goesWithTrain(frame, train, line) == (number == other))
                try datapath.setNextHops(.fresh)
                try datapath.setClocks(train)
                let outcome = try datapath.outcome(of: frame, at: line.hook, on: line.side, refreshing: false)
                #expect(outcome.verdict == .redirected)
            }
        }
    }

    /// At TC it is not for this host; what a train there compares is changed above (`Change.arrival`).
    @Test(arguments: Line.all)
    func `a packet to another MAC address is none of the train`(line: Line) throws {
        var (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, line)
        for place in 0..<6 {
            frame[place] ^= 1
            #expect(try datapath.outcome(of: frame, behind: train, line).verdict == .passed)
            frame[place] ^= 1
        }
        #expect(try datapath.outcome(of: frame, behind: train, line).verdict == .redirected)
    }

    /// A train of each hook and side: packets that come in elsewhere do not end it.
    @Test(arguments: Transport.allCases)
    func `what comes in at one hook and side is no train of another`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, transport)
        try datapath.open(conversation)
        let lines = [(Hook.tc, Side.uplink), (.tc, .container), (.xdp, .uplink)].map {
            Line(hook: $0.0, side: $0.1, transport: transport)
        }
        for line in lines {
            var clock = PooledDatapath.Clock()
            for _ in 0..<2 {
                clock = try #require(try datapath.clock(behind: clock, line.frame(conversation), line))
            }
            #expect(clock[line].until != 0)
            for other in lines where (other.hook, other.side) != (line.hook, line.side) {
                #expect(clock[other] == PooledDatapath.Train())
            }
        }
    }

    @Test(arguments: Line.all)
    func `a packet behind the last of a flow does not go by that`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, line)
        #expect(try datapath.datapath.flushFlows() == 1)
        #expect(try !datapath.goesWithTrain(frame, train, line))
        guard line.hook == .xdp else { return }
        #expect(try datapath.outcome(of: frame, behind: train, line).verdict == .passed)
        #expect(try datapath.datapath.flows().isEmpty)
    }

    @Test(arguments: Line.all.filter { $0.transport == .tcp })
    func `a connection that is cut has no train`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let train = try datapath.refreshed(datapath.train(behindTwoOf: frame, line), line)
        try datapath.datapath.removeAllMappings(ending: .cut)
        try datapath.setClocks(train.marked(line))
        let outcome = try datapath.outcome(of: frame, at: line.hook, on: line.side, refreshing: false)
        #expect(outcome.packet != frame || line.hook == .xdp && outcome.verdict == .passed)  // TC makes a RST of it
        #expect(!outcome.isMarked)
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
        let one = try #require(try datapath.clock(behind: .init(), bare, line))
        let two = try datapath.clock(behind: one, bare, line)
        #expect((two ?? one)[line].until == 0)
    }

    /// Such a packet would find no train to be of, each time.
    @Test(arguments: Line.all.filter { $0.transport == .udp })
    func `packets without a checksum, or nearly without payload, make no train`(line: Line) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, .udp)
        try datapath.open(conversation)
        var unsummed = line.frame(conversation)
        (unsummed[40], unsummed[41]) = (0, 0)
        for frame in [unsummed, line.packet(conversation, payload: [1]).bytes] {
            let one = try #require(try datapath.clock(behind: .init(), frame, line))
            #expect(try datapath.clock(behind: one, frame, line) == nil)
        }
    }

    @Test(arguments: Line.all.filter { $0.hook == .tc && $0.transport == .tcp })
    func `a GSO packet goes with a train as long as its segments fit the next hop`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, line)
        let long = line.packet(Conversation(.ipv4, .tcp), payload: [UInt8](repeating: 7, count: 3_000)).bytes
        let headers: UInt32 = 40
        let mtu = train[line].mtu
        #expect(try datapath.goesWithTrain(long, train, line, gsoSize: mtu - headers))
        #expect(try !datapath.goesWithTrain(long, train, line, gsoSize: mtu - headers + 1))
        #expect(try !datapath.goesWithTrain(long, train, line))
    }

    @Test(arguments: Line.all.filter { $0.hook == .tc })
    func `what a device knows of a packet's sum stays true in a train`(line: Line) throws {
        let (datapath, frame) = try opened(line)
        let train = try datapath.train(behindTwoOf: frame, line)
        try datapath.setClocks(datapath.refreshed(train, line))
        #expect(try datapath.sumFits(frame, on: line.side) != false)
        // A train that gets ports which its sums do not make up for: so it was of the train.
        try datapath.setClocks(datapath.refreshed(train, line).marked(line))
        #expect(try datapath.sumFits(frame, on: line.side) != true)
    }

    /// They would move it behind the program's back (rewrite_checksum_by_helper).
    @Test(arguments: Line.all.filter { $0.hook == .tc })
    func `packets whose checksums helpers move make no train`(line: Line) throws {
        let datapath = try TestDatapath(seesChecksumStates: false)
        let conversation = Conversation(.ipv4, line.transport)
        try datapath.open(conversation)
        let frame = line.frame(conversation)
        let one = try #require(try datapath.clock(behind: .init(), frame, line))
        #expect(one[line].last != 0)
        #expect(try datapath.clock(behind: one, frame, line) == nil)
    }
}
