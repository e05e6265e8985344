import FastNATTesting
import Testing

@testable import FastNAT

/// Checksums are moved by what the addresses and ports changed, and never mended.
@Suite struct ChecksumTests {
    /// A datapath whose programs move checksums; for TC, another one whose programs have helpers move them.
    private func datapaths(_ hook: Hook) throws -> [TestDatapath] {
        let own = try TestDatapath()
        return hook == .tc ? [own, try TestDatapath(seesChecksumStates: false)] : [own]
    }

    @Test(arguments: Way.all)
    func `a UDP checksum of zero stays, which means none`(way: Way) throws {
        for datapath in try datapaths(way.hook) {
            let conversation = Conversation(way, .udp)
            try datapath.open(conversation)
            let (request, reply) = (conversation.request(payload: [1, 2]), conversation.reply(payload: [3]))
            try datapath.expectForwarded(conversation, request.with { $0.transportChecksum = .zero }, at: way.hook)
            try datapath.expectReturned(conversation, reply.with { $0.transportChecksum = .zero }, at: way.hook)
        }
    }

    @Test(arguments: Way.all)
    func `a UDP checksum that comes to zero is sent as all ones`(way: Way) throws {
        for datapath in try datapaths(way.hook) {
            let conversation = Conversation(way, .udp)
            try datapath.open(conversation)
            let request = conversation.request().withSum(of: 0xffff) { conversation.forwarded($0) }
            let reply = conversation.reply().withSum(of: 0xffff) { conversation.returned($0) }
            #expect(PacketView(conversation.forwarded(request).bytes)["udp.checksum"] == "0xffff")
            try datapath.expectForwarded(conversation, request, at: way.hook)
            try datapath.expectReturned(conversation, reply, at: way.hook)
        }
    }

    @Test(arguments: Way.all)
    func `a UDP checksum of all ones is moved on`(way: Way) throws {
        for datapath in try datapaths(way.hook) {
            let conversation = Conversation(way, .udp)
            try datapath.open(conversation)
            let request = conversation.request().withSum(of: 0xffff) { $0 }
            #expect(PacketView(request.bytes)["udp.checksum"] == "0xffff")
            try datapath.expectForwarded(conversation, request, at: way.hook)
            try datapath.expectReturned(conversation, conversation.reply().withSum(of: 0xffff) { $0 }, at: way.hook)
        }
    }

    @Test(arguments: Way.all)
    func `a TCP checksum may come to zero`(way: Way) throws {
        for datapath in try datapaths(way.hook) {
            let conversation = Conversation(way, .tcp)
            try datapath.open(conversation)
            let request = conversation.request().withSum(of: 0xffff) { conversation.forwarded($0) }
            #expect(PacketView(conversation.forwarded(request).bytes)["tcp.checksum"] == "0x0000")
            try datapath.expectForwarded(conversation, request, at: way.hook)
            try datapath.expectForwarded(
                conversation, conversation.request().withSum(of: 0xffff) { $0 }, at: way.hook)
        }
    }

    @Test(arguments: TransportWay.all, [0x0001, 0x0100, 0x1234] as [UInt16])
    func `a wrong transport checksum stays as wrong`(way: TransportWay, error: UInt16) throws {
        for datapath in try datapaths(way.hook) {
            let conversation = Conversation(way)
            try datapath.open(conversation)
            func spoil(_ packet: inout Packet) { packet.transportChecksum = .offBy(error) }
            // The sums are chosen so that neither runs over: then the difference is the same in one's complement.
            let request = conversation.request().withSum(of: 0x7000) { $0 }.with(spoil)
            let reply = conversation.reply().withSum(of: 0x8000) { $0 }.with(spoil)
            try datapath.expectForwarded(conversation, request, at: way.hook)
            try datapath.expectReturned(conversation, reply, at: way.hook)
            #expect(!checksumsAreValid(conversation.forwarded(request).bytes))
        }
    }

    @Test(arguments: Hook.allCases, [0x0001, 0x0100, 0x1234] as [UInt16])
    func `a wrong IPv4 header checksum stays as wrong`(hook: Hook, error: UInt16) throws {
        for datapath in try datapaths(hook) {
            let conversation = Conversation(.ipv4, .tcp)
            try datapath.open(conversation)
            let request = conversation.request().with { $0.ipv4?.checksum = .offBy(error) }
            try datapath.expectForwarded(conversation, request, at: hook)
            #expect(!checksumsAreValid(conversation.forwarded(request).bytes))
        }
    }

    @Test(arguments: Kind.all)
    func `what a device knows of a packet's sum stays true`(kind: Kind) throws {
        for datapath in try datapaths(.tc) {
            let conversation = Conversation(kind)
            try datapath.open(conversation)
            let (request, reply) = (conversation.request(payload: [1, 2, 3]), conversation.reply(payload: [4]))
            #expect(try datapath.sumFits(request.bytes, on: .uplink) != false)
            #expect(try datapath.sumFits(reply.bytes, on: .container) != false)
        }
    }

    @Test(arguments: TransportWay.all)
    func `XDP leaves a packet to TC whose checksum is yet to be completed`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let request = conversation.request(payload: [1, 2, 3]).with { $0.transportChecksum = .partial }
        let reply = conversation.reply(payload: [1, 2, 3]).with { $0.transportChecksum = .partial }
        try datapath.expectPassed(request, at: .xdp)
        try datapath.expectPassed(reply, at: .xdp)
    }

    @Test(arguments: Kind.all)
    func `a finished checksum that looks unfinished is right at TC and left alone by XDP`(kind: Kind) throws {
        for datapath in try datapaths(.tc) {
            let conversation = Conversation(kind)
            try datapath.open(conversation)
            let base = conversation.request()
            let pseudo = try #require(
                base.with { $0.payload += [0, 0] }.with { $0.transportChecksum = .partial }.checksum)
            // The sum of everything is the complement of the field that it gives.
            let packet = base.withSum(of: ~pseudo) { $0 }
            #expect(packet.checksum == pseudo && checksumsAreValid(packet.bytes))
            try datapath.expectPassed(packet, at: .xdp)
            try datapath.expectForwarded(conversation, packet, at: .tc)
        }
    }

    @Test(arguments: TransportWay.all)
    func `checksums are right for hundreds of random packets`(way: TransportWay) throws {
        var random = Generator(seed: 7)
        for datapath in try datapaths(way.hook) {
            for _ in 0..<16 {
                let conversation = Conversation(
                    way.family, way.transport, clientPort: .random(in: 1...65_535, using: &random)
                )
                .with {
                    $0.client.address = Packet.Address(
                        bytes: $0.client.address.bytes.dropLast(way.family == .ipv4 ? 2 : 10)
                            + (0..<(way.family == .ipv4 ? 2 : 10)).map { _ in .random(in: 1...99, using: &random) })
                    $0.clientMAC = TestNetwork.gatewayMAC
                }
                try datapath.open(conversation)
                for _ in 0..<8 {
                    let payload = (0..<Int.random(in: 0...700, using: &random)).map { _ in
                        UInt8.random(in: 0...255, using: &random)
                    }
                    try datapath.expectForwarded(conversation, conversation.request(payload: payload), at: way.hook)
                    try datapath.expectReturned(conversation, conversation.reply(payload: payload), at: way.hook)
                }
            }
        }
    }
}

extension Packet {
    /// The transport checksum as it is on the wire.
    var checksum: UInt16? {
        let view = PacketView(bytes)
        return (view["tcp.checksum"] ?? view["udp.checksum"]).flatMap { UInt16($0.dropFirst(2), radix: 16) }
    }

    /// The packet with a payload of two bytes that make the one's complement sum of what `final` makes of it `sum`; its
    /// checksum then is the complement of that.
    func withSum(of sum: UInt16, in final: (Packet) -> Packet) -> Packet {
        let empty = with { $0.payload = [0, 0] }
        guard let checksum = final(empty).checksum else { return self }
        var word = UInt32(sum) + UInt32(checksum)
        word = (word & 0xffff) + word >> 16
        return with { $0.payload = [UInt8(word >> 8), UInt8(word & 0xff)] }
    }
}

/// Random numbers that are the same in each run (SplitMix64).
struct Generator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
