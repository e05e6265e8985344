import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Packets come in trains: at XDP, one behind another of its flow takes that one's hash (`lane_hash`,
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
    func `a packet goes by the hash of the one before, whatever that is`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let frame = try begin(Conversation(.ipv4, transport), in: datapath)
        try datapath.setStreaks(0)
        #expect(try verdict(of: frame, in: datapath) == .redirected)
        var clock = try #require(try datapath.lastClock(transport))
        let index = try MappedArray(datapath.maps.index)
        let home = UInt32(truncatingIfNeeded: clock[transport].hash) % UInt32(index.count)
        let away = (home + 1) % UInt32(index.count)
        let bucket = index[Int(home)]
        // No packet would look for it there.
        try datapath.maps.index.set(away, bucket)
        try datapath.maps.index.set(home, flow_bucket())
        clock[transport].hash &+= 1
        try datapath.setStreaks(0)
        #expect(try verdict(of: frame, in: datapath) == .passed)
        try datapath.setClocks(clock)
        #expect(try verdict(of: frame, in: datapath) == .redirected)
        try datapath.maps.index.set(home, bucket)
        try datapath.maps.index.set(away, flow_bucket())
    }

    /// Each part of a tuple, and the protocol, in turns with what it differs from.
    @Test(arguments: transports)
    func `packets of other flows between have hashes of their own`(transport: Transport) throws {
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
            try datapath.setStreaks(0)
            #expect(try verdict(of: frame, in: datapath) == .redirected)
            return (conversation.transport, frame, try #require(try datapath.lastClock(conversation.transport)))
        }
        #expect(Set(trains.map { $0.2[$0.0].hash }).count == trains.count)
        for (other, frame, clock) in trains {
            for before in trains {
                try datapath.setClocks(before.2)
                #expect(try verdict(of: frame, in: datapath) == .redirected)
                #expect(try datapath.lastHashes(other).contains(clock[other]))
            }
        }
    }

    @Test(arguments: transports)
    func `a packet behind the last of a flow does not go by that`(transport: Transport) throws {
        let datapath = try TestDatapath()
        let frame = try begin(Conversation(.ipv4, transport), in: datapath)
        #expect(try verdict(of: frame, in: datapath) == .redirected)
        #expect(try datapath.datapath.flushFlows() == 1)
        #expect(try verdict(of: frame, in: datapath) == .passed)
        #expect(try datapath.datapath.flows().isEmpty)
    }
}
