import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Packets come in trains: at XDP, one behind two others of its flow is looked for where they were found (`lane_follow`,
/// `bpf/pipeline/lane.h`).
@Suite struct TrainTests {
    private static let transports: [Transport] = [.tcp, .udp]

    /// Opens the conversation's flow.
    ///
    /// - Returns: a packet of it.
    private func begin(_ conversation: Conversation, in datapath: TestDatapath) throws -> [UInt8] {
        try datapath.open(conversation)
        return conversation.request(payload: [1, 2, 3]).bytes
    }

    private func verdict(of frame: [UInt8], in datapath: TestDatapath) throws -> Outcome.Verdict {
        try datapath.outcome(of: frame, at: .xdp).verdict
    }

    @Test(arguments: transports)
    func `two packets of a flow make a train`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let frame = try begin(Conversation(.ipv4, transport), in: datapath)
        let one = try #require(try datapath.clock(behind: .init(), frame))
        #expect(one.train.entry == 0 && one.train.last != 0)
        let two = try #require(try datapath.clock(behind: one, frame))
        #expect(two.train.entry == one.train.last && two.train.last == one.train.last)
        let index = try MappedArray(datapath.maps.index)
        let entries = withUnsafeBytes(of: index[Int(two.train.bucket)]) { Array($0.bindMemory(to: UInt64.self)) }
        #expect(entries[Int(two.train.place)] == two.train.entry)
    }

    @Test(arguments: transports)
    func `a packet of a train is looked for where those before it were found`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let frame = try begin(Conversation(.ipv4, transport), in: datapath)
        var clock = try #require(try datapath.clock(behindTwoOf: frame))
        let index = try MappedArray(datapath.maps.index)
        let home = clock.train.bucket
        let away = (home + 1) % UInt32(index.count)
        let bucket = index[Int(home)]
        // No packet would look for it there.
        try datapath.maps.index.set(away, bucket)
        try datapath.maps.index.set(home, flow_bucket())
        try datapath.setStreaks(0)
        #expect(try verdict(of: frame, in: datapath) == .passed)
        try datapath.setClocks(clock)
        #expect(try verdict(of: frame, in: datapath) == .passed)
        #expect(try datapath.clocks().contains { $0.train.entry == 0 })
        clock.train.bucket = away
        try datapath.setClocks(clock)
        #expect(try verdict(of: frame, in: datapath) == .redirected)
        try datapath.maps.index.set(home, bucket)
        try datapath.maps.index.set(away, flow_bucket())
    }

    /// Each part of a tuple, and the protocol, in turns with what it differs from.
    @Test(arguments: transports)
    func `a packet of another flow ends the train`(transport: Transport) throws {
        let datapath = try TestDatapath(
            Family.ipv4.standardMappings + ["8090/tcp", "8090/udp"].map { Family.ipv4.mapping($0, to: "90") })
        let conversation = Conversation(.ipv4, transport)
        let others = [
            conversation.with {
                ($0.client.address, $0.clientMAC) = (Family.ipv4.farClient, TestNetwork.gatewayMAC)
            },
            conversation.with { $0.client.port += 1 },
            conversation.with { ($0.published.port, $0.target.port) = (8090, 90) },
            Conversation(.ipv4, transport == .tcp ? .udp : .tcp),
        ]
        let trains = try ([conversation] + others).map { conversation in
            let frame = try begin(conversation, in: datapath)
            return (frame, try #require(try datapath.clock(behindTwoOf: frame)))
        }
        #expect(Set(trains.map(\.1.train.entry)).count == trains.count)
        for (frame, own) in trains {
            for (_, before) in trains {
                let isSame = before.train == own.train
                try datapath.setClocks(before)
                #expect(try verdict(of: frame, in: datapath) == .redirected)
                #expect(
                    try datapath.clocks().contains {
                        $0.train.last == own.train.entry && $0.train.entry == (isSame ? own.train.entry : 0)
                    })
            }
        }
    }

    @Test(arguments: transports)
    func `a packet behind the last of a flow does not go by that`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let frame = try begin(Conversation(.ipv4, transport), in: datapath)
        let clock = try #require(try datapath.clock(behindTwoOf: frame))
        #expect(try datapath.datapath.flushFlows() == 1)
        try datapath.setClocks(clock)
        #expect(try verdict(of: frame, in: datapath) == .passed)
        #expect(try datapath.datapath.flows().isEmpty)
    }

    /// The record says whose it is, the index whether it still is somebody's.
    @Test(arguments: transports)
    func `a flow that has gone is not followed, whatever its record says`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let frame = try begin(Conversation(.ipv4, transport), in: datapath)
        let clock = try #require(try datapath.clock(behindTwoOf: frame))
        let index = try MappedArray(datapath.maps.index)
        let bucket = index[Int(clock.train.bucket)]
        var next = bucket
        // The same flow of the next generation.
        withUnsafeMutableBytes(of: &next) { $0.bindMemory(to: UInt64.self)[Int(clock.train.place)] ^= 1 << 24 }
        try datapath.maps.index.set(clock.train.bucket, next)
        try datapath.setClocks(clock)
        #expect(try verdict(of: frame, in: datapath) == .redirected)
        #expect(try datapath.clocks().contains { $0.train.entry == 0 && $0.train.last == clock.train.entry ^ 1 << 24 })
        try datapath.maps.index.set(clock.train.bucket, bucket)
    }
}
