import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Where tuples stand in the index of flows.
@Suite struct IndexTests {
    @Test(arguments: Kind.all)
    func `both directions of a client's flow stand in one bucket`(kind: Kind) throws {
        let datapath = try TestDatapath()
        for port: UInt16 in [32_768, 40_000, 60_999] {
            try datapath.open(Conversation(kind.family, kind.transport, clientPort: port))
            #expect(try datapath.buckets().count == 1, "\(port)")
            #expect(try datapath.datapath.flushFlows() == 1)
        }
    }

    /// On one page of memory, as a rule, which the processor has then found already.
    @Test(arguments: Kind.all)
    func `flows from neighbouring ports of a client stand in neighbouring buckets`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let ports: ClosedRange<UInt16> = 40_000...40_015
        let numbers = try ports.map { port in
            try datapath.open(Conversation(kind.family, kind.transport, clientPort: port))
            defer { #expect(throws: Never.self) { try datapath.datapath.flushFlows() } }
            return try #require(try datapath.buckets().first)
        }
        let count = try MappedArray(datapath.maps.index).count
        #expect(numbers == numbers.indices.map { (numbers[0] + $0) % count })
    }

    @Test(arguments: Kind.all)
    func `flows of many clients from the same port are all over the index`(kind: Kind) throws {
        let datapath = try TestDatapath(flows: 1_024 * kind.family.places)
        for number: UInt8 in 0..<250 {
            var address = kind.family.farClient.bytes
            address[address.count - 1] = number
            let client = Packet.Address(bytes: address)
            try datapath.open(
                Conversation(kind).with { ($0.client.address, $0.clientMAC) = (client, TestNetwork.gatewayMAC) })
        }
        // In no more than half of as many there would be two and more to a bucket throughout.
        #expect(try datapath.buckets().count > 125)
    }

    @Test(arguments: Kind.all)
    func `many flows of one client, more than its buckets hold, are all found and leave nothing behind`(kind: Kind)
        throws
    {
        let ranges = ["8000-8199/\(kind.transport)", "8200-8399/\(kind.transport)"]
        let datapath = try TestDatapath(
            zip(ranges, ["1000-1199", "1200-1399"]).map { kind.family.mapping($0, to: $1) })
        let conversations = (0..<400 as Range<UInt16>).map { offset in
            Conversation(kind).with { ($0.published.port, $0.target.port) = (8000 + offset, 1000 + offset) }
        }
        for conversation in conversations { try datapath.open(conversation) }
        try datapath.expectConsistent(originals: 400)
        let index = try MappedArray(datapath.maps.index)
        #expect((0..<index.count).contains { index[$0].spilled > 700 })
        try datapath.setNextHops(.fresh)
        let requests = try datapath.run(conversations.map { $0.request(payload: [1]).bytes }, at: .tc)
        #expect(requests.map(\.packet) == conversations.map { $0.forwarded($0.request(payload: [1])).bytes })
        let replies = try datapath.run(conversations.map { $0.reply(payload: [2]).bytes }, at: .tc, on: .container)
        #expect(replies.map(\.packet) == conversations.map { $0.returned($0.reply(payload: [2])).bytes })
        // When half of them go, the rest is still found.
        #expect(try datapath.datapath.flushFlows(of: try datapath.datapath.mappings()[0].mapping.listen) == 200)
        try datapath.expectConsistent(originals: 200)
        try datapath.setNextHops(.fresh)
        let later = try datapath.run(conversations.map { $0.request(payload: [3]).bytes }, at: .xdp)
        #expect(later.map(\.action) == conversations.map { $0.published.port < 8200 ? 2 : 4 })
    }
}

extension TestDatapath {
    /// The numbers of the buckets that have entries.
    fileprivate func buckets() throws -> [Int] {
        let index = try MappedArray(maps.index)
        return (0..<index.count).filter { bucket in
            withUnsafeBytes(of: index[bucket].entries) { $0.contains { $0 != 0 } }
        }
    }
}
