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

    /// Or else in a table that is nearly full there would now and then be a tuple with three full buckets.
    @Test(arguments: Kind.all)
    func `the last place of a bucket is for tuples that have no other`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let (conversation, homes, seconds, thirds) = try conversationWithDistinctBuckets(kind, in: datapath)
        let (places, all) = (Int(BUCKET_ENTRIES.rawValue), homes.union(seconds).union(thirds))
        try datapath.crowd(all, places - 1)
        try datapath.crowd(homes, places - 2)
        #expect(try datapath.bucketsUsed(by: conversation) == homes)
        try datapath.crowd(homes, places)
        #expect(try datapath.bucketsUsed(by: conversation) == seconds)
        try datapath.crowd(seconds, places)
        #expect(try datapath.bucketsUsed(by: conversation) == thirds)
        try datapath.crowd(thirds, places)
        try datapath.expectDropped(conversation.request(.syn), counting: "table_full")
        try datapath.crowd(all, 0)
    }

    /// A conversation each tuple of which has three buckets that no other has, but for the first, which is the same; and these: the
    /// second ones are taken while the first is full but for one place, and so on.
    private func conversationWithDistinctBuckets(_ kind: Kind, in datapath: TestDatapath) throws
        -> (Conversation, homes: Set<Int>, seconds: Set<Int>, thirds: Set<Int>)
    {
        let places = Int(BUCKET_ENTRIES.rawValue)
        for port in UInt16(40_000)...40_100 {
            let conversation = Conversation(kind.family, kind.transport, clientPort: port)
            let homes = try datapath.bucketsUsed(by: conversation)
            try datapath.crowd(homes, places - 1)
            let seconds = try datapath.bucketsUsed(by: conversation)
            try datapath.crowd(seconds, places - 1)
            let thirds = try datapath.bucketsUsed(by: conversation)
            try datapath.crowd(homes.union(seconds), 0)
            if homes.count == 1, seconds.count == 2, thirds.count == 2, homes.union(seconds).union(thirds).count == 5 {
                return (conversation, homes, seconds, thirds)
            }
        }
        throw TestingError.malformed("of a hundred flows none has five buckets")
    }
}

extension TestDatapath {
    /// Makes buckets have so many entries, which lead to nothing that any packet could be of.
    fileprivate func crowd(_ buckets: some Sequence<Int>, _ count: Int) throws {
        var crowded = flow_bucket()
        withUnsafeMutableBytes(of: &crowded.entries) { bytes in
            let entries = bytes.bindMemory(to: UInt64.self)
            for place in 0..<count { entries[place] = Self.stranger }
        }
        for bucket in buckets { try maps.index.set(UInt32(bucket), crowded) }
    }

    /// In use, of a tag that tuples have only by chance.
    private static let stranger: UInt64 = 0xdead_beef << 32 | 1 << 31

    /// Where the tuples of a conversation stand while it is open.
    fileprivate func bucketsUsed(by conversation: Conversation) throws -> Set<Int> {
        try open(conversation)
        let index = try MappedArray(maps.index)
        let used = (0..<index.count).filter { bucket in
            withUnsafeBytes(of: index[bucket].entries) { bytes in
                bytes.bindMemory(to: UInt64.self).contains { $0 != 0 && $0 != Self.stranger }
            }
        }
        #expect(try datapath.flushFlows() == 1)
        return Set(used)
    }

    /// The numbers of the buckets that have entries.
    fileprivate func buckets() throws -> [Int] {
        let index = try MappedArray(maps.index)
        return (0..<index.count).filter { bucket in
            withUnsafeBytes(of: index[bucket].entries) { $0.contains { $0 != 0 } }
        }
    }
}
