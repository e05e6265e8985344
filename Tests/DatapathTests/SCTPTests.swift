import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Associations of SCTP: addresses change, and nothing else does.
@Suite struct SCTPTests {
    private func published(_ family: Family, _ mappings: String...) throws -> TestDatapath {
        try TestDatapath((["8080/sctp"] + mappings).map { family.mapping($0, to: String($0.dropLast(5))) })
    }

    @Test(arguments: Way.all)
    func `an association is established and carries data, its CRC32c as it was`(way: Way) throws {
        let datapath = try published(way.family)
        let conversation = Conversation(way, .sctp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.states() == [.halfOpen])
        try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
        #expect(try datapath.states() == [.halfOpen])
        let echo = conversation.request(payload: [1, 2, 3, 4]).with { $0.sctp?.chunk = .cookieEcho }
        try datapath.expectForwarded(conversation, echo, at: way.hook)
        #expect(try datapath.states() == [.established])
        let acknowledgement = conversation.reply().with { $0.sctp?.chunk = .cookieAck }
        try datapath.expectReturned(conversation, acknowledgement, at: way.hook)
        for length in [0, 1, 4, 1_000] {
            let payload = (0..<length).map { UInt8(truncatingIfNeeded: $0 * 7) }
            try datapath.expectForwarded(conversation, conversation.request(payload: payload), at: way.hook)
            try datapath.expectReturned(conversation, conversation.reply(payload: payload), at: way.hook)
            #expect(checksumsAreValid(conversation.forwarded(conversation.request(payload: payload)).bytes))
        }
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Way.all)
    func `a range leads to the same ports, and an address of the host to its mapping`(way: Way) throws {
        let datapath = try TestDatapath([
            way.family.mapping("9000-9009/sctp", to: "9000-9009", on: way.family.otherHost)
        ])
        let conversation = Conversation(way, .sctp).with {
            $0.published = Packet.Endpoint(way.family.otherHost, port: 9_007)
            $0.target.port = 9_007
        }
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: way.hook)
        try datapath.expectPassed(conversation.with { $0.published.address = way.family.host }.request(.syn))
    }

    static let beginnings: [Packet.SCTPChunk] = [.data, .initiateAck, .heartbeat, .abort, .cookieEcho, .shutdown]

    @Test(arguments: Way.all, beginnings)
    func `only an INIT begins a flow`(way: Way, chunk: Packet.SCTPChunk) throws {
        let datapath = try published(way.family)
        let request = Conversation(way, .sctp).request(.syn)
        try datapath.expectPassed(request.with { $0.sctp?.chunk = chunk }, at: way.hook)
        try datapath.expectPassed(request.with { $0.sctp?.verificationTag = 1 }, at: way.hook)
        #expect(try datapath.states() == [])
    }

    @Test(arguments: Way.all)
    func `an INIT, a heartbeat or an abort in the middle ends nothing at once`(way: Way) throws {
        let datapath = try published(way.family)
        let conversation = Conversation(way, .sctp)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
        #expect(try datapath.states() == [.established])
        try datapath.expectForwarded(conversation, conversation.request(.rst), at: way.hook)
        #expect(try datapath.states() == [.closing])
        let heartbeat = conversation.reply(payload: [1]).with { $0.sctp?.chunk = .heartbeat }
        try datapath.expectReturned(conversation, heartbeat, at: way.hook)
        #expect(try datapath.states() == [.established])
    }

    @Test(arguments: Way.all)
    func `a shutdown closes the flow, and the next INIT begins another one`(way: Way) throws {
        let datapath = try published(way.family)
        let conversation = Conversation(way, .sctp)
        try datapath.open(conversation)
        let chunk = { (packet: Packet, chunk: Packet.SCTPChunk) in packet.with { $0.sctp?.chunk = chunk } }
        try datapath.expectForwarded(conversation, chunk(conversation.request(), .shutdown), at: way.hook)
        #expect(try datapath.states() == [.established])
        try datapath.expectReturned(conversation, chunk(conversation.reply(), .shutdownAck), at: way.hook)
        try datapath.expectForwarded(conversation, chunk(conversation.request(), .shutdownComplete), at: way.hook)
        #expect(try datapath.states() == [.closing])
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.states() == [.halfOpen])
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Family.allCases)
    func `the timeouts are those of TCP`(family: Family) throws {
        var timeouts = Timeouts()
        (timeouts.tcpHalfOpen, timeouts.tcpClosing, timeouts.tcpOpen, timeouts.udp) = (100, 300, 600, 900)
        let datapath = try TestDatapath([family.mapping("8080/sctp", to: "8080")], timeouts: timeouts)
        let conversations = (0..<3).map { Conversation(family, .sctp, clientPort: 30_000 + $0) }
        try datapath.expectForwarded(conversations[0], conversations[0].request(.syn))
        for conversation in conversations[1...] { try datapath.open(conversation) }
        try datapath.expectReturned(conversations[2], conversations[2].reply(.rst))
        for (seconds, states) in [
            (200, [.closing, .established]), (250, [.established]), (250, []),
        ] as [(UInt64, Set<FlowState>)] {
            try datapath.age(by: seconds)
            try datapath.sweep()
            try eventually("only \(states)") { try Set(datapath.states()) == states }
        }
    }

    @Test(arguments: Way.all)
    func `at XDP, a packet whose CRC32c is yet to be computed is left to TC`(way: Way) throws {
        let datapath = try published(way.family)
        let conversation = Conversation(way, .sctp)
        try datapath.open(conversation)
        let request = conversation.request(payload: [1, 2, 3]).with { $0.sctp?.checksum = 0 }
        try datapath.expectPassed(request, at: .xdp)
        try datapath.expectForwarded(conversation, request, at: .tc)
    }

    @Test(arguments: Family.allCases)
    func `a device's sum of the packet stays true`(family: Family) throws {
        let datapath = try published(family)
        let conversation = Conversation(family, .sctp)
        try datapath.open(conversation)
        #expect(try datapath.sumFits(conversation.request(payload: [1, 2, 3]).bytes, on: .uplink) != false)
        #expect(try datapath.sumFits(conversation.reply(payload: [1, 2, 3]).bytes, on: .container) != false)
    }

    @Test(arguments: Family.allCases)
    func `where only another source port would do, the packet is dropped`(family: Family) throws {
        let datapath = try TestDatapath([
            family.mapping("8080/sctp", to: "8080"),
            family.mapping("8080/sctp", to: "8080", on: family.otherHost),
        ])
        let first = Conversation(family, .sctp)
        try datapath.open(first)
        let second = first.with { $0.published.address = family.otherHost }
        try datapath.expectDropped(second.request(.syn), counting: "no_free_port")
        try datapath.open(second.with { $0.client.port += 1 })
        try datapath.expectForwarded(first, first.request(payload: [1]))
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: Way.all, [MasqueradeType.symmetric, .endpointIndependent(.address)])
    func `a masquerade keeps the port, or refuses where it is taken`(way: Way, type: MasqueradeType) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(way.family, type)
        let outbound = try datapath.open(Outbound(way.family, .sctp))
        #expect(outbound.external.port == 40_000)
        try datapath.expectForwarded(outbound, outbound.request(payload: [1, 2, 3]))
        try datapath.expectReturned(outbound, outbound.reply(payload: [4]), at: way.hook)
        let other = Outbound(way.family, .sctp).with {
            $0.container.address = way.family.otherTarget
            $0.containerMAC = TestNetwork.otherTargetMAC
        }
        try datapath.expectReported(
            other.request(.syn), as: .prohibited, on: .container, counting: "no_free_port")
        #expect(try datapath.population().flows == 1)
    }

    @Test(arguments: Family.allCases)
    func `a masquerade with ports gives none but those`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family, ports: 40_000...40_001)
        _ = try datapath.open(Outbound(family, .sctp))
        let outside = Outbound(family, .sctp).with { $0.container.port = 39_999 }
        try datapath.expectReported(
            outside.request(.syn), as: .prohibited, on: .container, counting: "no_free_port")
    }

    @Test(arguments: Family.allCases, [Side.uplink, .container])
    func `fragments are translated`(family: Family, side: Side) throws {
        let datapath = try published(family)
        let conversation = Conversation(family, .sctp)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: side)
        for number in packet.fragments.indices { try datapath.expectForwarded(packet, number) }
    }

    @Test(arguments: Family.allCases)
    func `when the mapping goes, an association drains, or is over`(family: Family) throws {
        for ending in [FlowEnding.drain, .cut] {
            let datapath = try published(family)
            let conversation = Conversation(family, .sctp)
            try datapath.open(conversation)
            try datapath.datapath.removeAllMappings(ending: ending)
            if ending == .drain {
                try datapath.expectForwarded(conversation, conversation.request(payload: [1]))
                try datapath.expectReturned(conversation, conversation.reply(payload: [1]))
            } else {
                try datapath.expectPassed(conversation.request(payload: [1]))
            }
            try datapath.expectPassed(conversation.with { $0.client.port += 1 }.request(.syn))
        }
    }

    @Test(arguments: Way.all, [0, 7, 11, 15])
    func `a header that is not all there is left to the stack`(way: Way, length: Int) throws {
        let datapath = try published(way.family)
        let conversation = Conversation(way, .sctp)
        try datapath.open(conversation)
        let request = conversation.request(payload: [1, 2, 3, 4])
        let bytes = Array(request.bytes.suffix(request.bytes.count - 14 - way.family.headerLength).prefix(length))
        let short = request.with {
            $0.transport = .raw
            $0.payload = bytes
            $0.ipv4?.protocolNumber = 132
            $0.ipv6?.nextHeader = 132
        }
        try datapath.expectPassed(short, at: way.hook, counting: "malformed")
    }
}
