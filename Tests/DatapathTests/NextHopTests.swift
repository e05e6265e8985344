import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Where packets leave the host: routes, neighbours, MTU. Each test has a network of its own, since it changes it.
@Suite struct NextHopTests {
    let network: TestNetwork
    let datapath: TestDatapath

    init() throws {
        network = try TestNetwork()
        datapath = try TestDatapath(network: network)
    }

    /// The kernel says "not forwarded" of such a source, as it does of the host's own addresses.
    @Test(arguments: Kind.all, [Party.linkLocal, .martian])
    func `a source that is not forwarded makes no destination the host's`(kind: Kind, source: Party) throws {
        let datapath = try TestDatapath()
        let transit = Conversation(kind).with { $0.published.address = kind.family.stranger }
        let forged = transit.with { $0.client.address = source.address(kind.family) }.request(.syn)
        #expect(try datapath.outcome(of: forged.bytes, at: .tc).verdict != .redirected)
        try datapath.expectPassed(transit.request(.syn), counting: "not_local")
    }

    @Test(arguments: TransportWay.all)
    func `a neighbour's new Ethernet address is used after a second`(way: TransportWay) throws {
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let moved = conversation.with {
            $0.targetMAC = "02:00:00:00:02:ff"
            $0.clientMAC = "02:00:00:00:01:ff"
        }
        try network.namespace.ip([
            TestNetwork.neighbour("\(way.family.target)", moved.targetMAC, "ctr"),
            TestNetwork.neighbour("\(way.family.client)", moved.clientMAC, "uplink"),
        ])
        let (request, reply) = (conversation.request(payload: [1]), conversation.reply(payload: [1]))
        // Within the second it goes where it went.
        try datapath.setNextHops(.fresh)
        try datapath.expectForwarded(conversation, request, at: way.hook)
        try datapath.setNextHops(.fresh)
        try datapath.expectReturned(conversation, reply, at: way.hook)
        try datapath.setNextHops(.stale)
        if way.hook == .xdp {
            // XDP does not ask: TC does, and then XDP knows again.
            let results = try datapath.run([request.bytes, reply.bytes], at: .xdp)
            #expect(results.map(\.action) == [2, 2])
            #expect(results.map(\.packet) == [request.bytes, reply.bytes])
        }
        try datapath.expectForwarded(request, as: moved.forwarded(request))
        try datapath.expectForwarded(reply, as: moved.returned(reply), on: .container)
        try datapath.expectForwarded(request, as: moved.forwarded(request), at: way.hook)
        try datapath.expectForwarded(reply, as: moved.returned(reply), at: way.hook, on: .container)
    }

    @Test(arguments: TransportWay.all)
    func `a flow goes by what another one between the same ends has been told`(way: TransportWay) throws {
        let first = Conversation(way)
        let second = first.with { $0.client.port = 40_001 }
        let far = first.with { ($0.client.address, $0.clientMAC) = (way.family.farClient, TestNetwork.gatewayMAC) }
        let other = first.with { ($0.client.port, $0.published.address) = (40_002, way.family.otherHost) }
        for conversation in [first, second, far, other] { try datapath.open(conversation) }
        let reply = second.reply(payload: [2])
        let replies = [reply, far.reply(payload: [3]), other.reply(payload: [4])].map(\.bytes)

        try datapath.setNextHops(.stale)
        try datapath.withoutRoutes(at: way.hook) {
            let results = try datapath.run([reply.bytes], at: way.hook, on: .container)
            #expect(results.map { Outcome.Verdict($0.action, at: way.hook) } == [.passed])
        }
        try datapath.expectReturned(first, first.reply(payload: [1]))
        try datapath.spreadRoute(at: way.hook, on: .container)
        try datapath.withoutRoutes(at: way.hook) {
            let results = try datapath.run(replies, at: way.hook, on: .container)
            #expect(results.map { Outcome.Verdict($0.action, at: way.hook) } == [.redirected, .passed, .passed])
            expectEqualPackets(second.returned(reply), results[0].packet)
        }
        // It is the other flow's: no fresher than that.
        let refreshed = try datapath.liveRecords().map(\.record.reply.refreshed)
        #expect(Set(refreshed).count == 2 && refreshed.count == 4)
    }

    @Test(arguments: Kind.all)
    func `all flows of a mapping know the next hop that one of them has asked for`(kind: Kind) throws {
        let first = Conversation(kind.family, kind.transport, clientPort: 40_001)
        let second = Conversation(kind.family, kind.transport, clientPort: 40_002)
        for conversation in [first, second] { try datapath.open(conversation) }
        let request = second.request(payload: [1])
        try datapath.setNextHops(.stale)
        #expect(try datapath.run([request.bytes], at: .xdp)[0].action == 2)
        try datapath.expectForwarded(first, first.request(payload: [1]))
        let result = try datapath.run([request.bytes], at: .xdp)[0]
        #expect(result.action == 4)
        expectEqualPackets(second.forwarded(request), result.packet)
    }

    @Test(arguments: Kind.all)
    func `an uplink with a new Ethernet address is known to XDP from the first packet that TC has seen`(kind: Kind)
        throws
    {
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let moved = conversation.with { $0.uplinkMAC = "02:00:00:00:01:0a" }
        try network.namespace.ip(["link set uplink address \(moved.uplinkMAC)"])
        let request = moved.request(payload: [1])
        try datapath.expectPassed(request, at: .xdp)
        try datapath.expectForwarded(moved, request)
        try datapath.expectForwarded(moved, request, at: .xdp)
        try datapath.expectPassed(conversation.request(payload: [1]), at: .xdp)
    }

    @Test(arguments: Family.allCases)
    func `a next hop is looked up again by the clock`(family: Family) throws {
        let conversation = Conversation(family, .udp)
        try datapath.open(conversation)
        let moved = conversation.with { $0.targetMAC = "02:00:00:00:02:ff" }
        try network.namespace.ip([TestNetwork.neighbour("\(family.target)", moved.targetMAC, "ctr")])
        let request = conversation.request(payload: [1])
        let start = ContinuousClock.now
        try awaitCondition("the new Ethernet address") { () throws(TestingError) in
            let result = Result { try datapath.run([request.bytes], at: .tc)[0].packet }
            return (try? result.get()) == moved.forwarded(request).bytes
        }
        #expect(ContinuousClock.now - start < .seconds(2))
    }

    @Test(arguments: Kind.all)
    func `without a neighbour the kernel is asked to find it`(kind: Kind) throws {
        try network.namespace.ip(["neigh del \(kind.family.target) dev ctr"])
        let conversation = Conversation(kind).with {
            $0.targetMAC = "00:00:00:00:00:00"
            $0.containerMAC = "00:00:00:00:00:00"
        }
        let request = conversation.request(.syn)
        for _ in 0..<2 { try datapath.expectForwarded(conversation, request) }
        let later = conversation.request(payload: [1])
        try datapath.expectPassed(later, at: .xdp)
        // Once it is known it is used at once.
        try network.namespace.ip([TestNetwork.neighbour("\(kind.family.target)", TestNetwork.targetMAC, "ctr")])
        let found = Conversation(kind)
        try datapath.expectForwarded(later, as: found.forwarded(later))
        try datapath.expectForwarded(later, as: found.forwarded(later), at: .xdp)
    }

    @Test(arguments: TransportWay.all)
    func `a route that goes takes the packets with it, and they are counted`(way: TransportWay) throws {
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let length = way.family == .ipv4 ? 32 : 128
        try network.namespace.ip(["route add blackhole \(way.family.target)/\(length)"])
        try datapath.setNextHops(.stale)
        let request = conversation.request(payload: [1])
        #expect(try datapath.run([request.bytes], at: .xdp)[0].action == 2)
        try datapath.expectDropped(request, counting: "no_route")
        try datapath.expectReturned(conversation, conversation.reply(payload: [1]))
        try network.namespace.ip(["route del blackhole \(way.family.target)/\(length)"])
        try datapath.expectForwarded(conversation, request)
    }

    @Test(arguments: Kind.all)
    func `without a route to the target a first packet is dropped`(kind: Kind) throws {
        let length = kind.family == .ipv4 ? 32 : 128
        try network.namespace.ip(["route add unreachable \(kind.family.target)/\(length)"])
        try datapath.expectDropped(Conversation(kind).request(.syn), counting: "no_route")
        #expect(try datapath.leftovers() == [])
    }

    @Test(arguments: Kind.all)
    func `without forwarding nothing is forwarded`(kind: Kind) throws {
        let key = kind.family == .ipv4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding"
        try network.namespace.setSystemControl(key, "0")
        try datapath.expectDropped(Conversation(kind).request(.syn), counting: "no_route")
        try datapath.datapath.removeAllMappings()
        try datapath.add([kind.family.mapping("8080/\(kind.transport)", to: "80", on: kind.family.host)])
        try datapath.expectDropped(Conversation(kind).request(.syn), counting: "no_route")
    }

    @Test(arguments: TransportWay.all)
    func `a packet longer than the MTU is answered with the MTU, one as long goes on`(way: TransportWay) throws {
        try network.namespace.ip(["link set ctr mtu 1400"])
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let fits = [UInt8](repeating: 7, count: 1_400 - way.family.headerLength - (way.transport == .tcp ? 20 : 8))
        try datapath.expectForwarded(conversation, conversation.request(payload: fits), at: way.hook)
        try datapath.expectReported(
            conversation.request(payload: fits + [7]), as: .tooBig(mtu: 1_400), at: way.hook, counting: "too_big")
        // The way back is 1,500 wide.
        try datapath.expectReturned(conversation, conversation.reply(payload: fits + [7]), at: way.hook)
        #expect(try datapath.datapath.flows().first?.original.packets == (way.transport == .tcp ? 3 : 2))
    }

    @Test(arguments: TransportWay.all)
    func `an MTU that shrinks counts after a second`(way: TransportWay) throws {
        let conversation = Conversation(way)
        try datapath.open(conversation)
        try network.namespace.ip(["link set ctr mtu 1300"])
        let request = conversation.request(payload: [UInt8](repeating: 7, count: 1_350))
        try datapath.expectForwarded(conversation, request, at: way.hook)
        try datapath.setNextHops(.stale)
        try datapath.expectReported(request, as: .tooBig(mtu: 1_300), counting: "too_big")
        try datapath.expectReported(request, as: .tooBig(mtu: 1_300), at: way.hook, counting: "too_big")
    }

    @Test(arguments: Kind.all)
    func `of a packet that will be segmented, the segments count`(kind: Kind) throws {
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let headers = UInt32(kind.family.headerLength + (kind.transport == .tcp ? 20 : 8))
        let request = conversation.request(payload: [UInt8](repeating: 7, count: 3_000))
        try datapath.expectReported(request, as: .tooBig(mtu: 1_500), counting: "too_big")
        try datapath.expectForwarded(request, as: conversation.forwarded(request), gsoSize: 1_500 - headers)
        try datapath.expectReported(request, as: .tooBig(mtu: 1_500), counting: "too_big", gsoSize: 1_501 - headers)
    }

    @Test(arguments: Family.allCases)
    func `TCP options count for the length of segments`(family: Family) throws {
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        let options = [UInt8](repeating: 1, count: 12)
        let request = conversation.request(payload: [UInt8](repeating: 7, count: 3_000), options: options)
        let headers = UInt32(family.headerLength + 32)
        try datapath.expectForwarded(request, as: conversation.forwarded(request), gsoSize: 1_500 - headers)
        try datapath.expectReported(request, as: .tooBig(mtu: 1_500), counting: "too_big", gsoSize: 1_501 - headers)
    }

    @Test(arguments: Kind.all)
    func `XDP forwards frames of several buffers`(kind: Kind) throws {
        try network.namespace.ip(["link set ctr mtu 9000", "link set uplink mtu 9000"])
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let payload = (0..<8_000).map { UInt8(truncatingIfNeeded: $0) }
        try datapath.expectForwarded(conversation, conversation.request(payload: payload), at: .xdp)
        try datapath.expectReturned(conversation, conversation.reply(payload: payload), at: .xdp)
    }

    @Test(arguments: Kind.all)
    func `XDP needs the headers in the first buffer, and leaves other frames to TC`(kind: Kind) throws {
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let request = conversation.request(payload: [UInt8](repeating: 7, count: 300))
        let headers = UInt32(14 + kind.family.headerLength + (kind.transport == .tcp ? 20 : 8))
        for firstBuffer in 14..<headers + 8 {
            try datapath.setNextHops(.fresh)
            guard let result = try datapath.run(request.bytes, firstBuffer: firstBuffer) else {
                try Test.cancel("the kernel makes no such frames for test runs (Linux 6.18 does)")
            }
            let isForwarded = firstBuffer >= headers
            #expect(result.action == (isForwarded ? 4 : 2), "first buffer of \(firstBuffer) bytes")
            expectEqualPackets(isForwarded ? conversation.forwarded(request) : request, result.packet)
        }
    }

    @Test(arguments: Kind.all)
    func `XDP leaves packets to TC whose output takes no frames from it`(kind: Kind) throws {
        try datapath.setXDPOutput(network.container, false)
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let (request, reply) = (conversation.request(payload: [1]), conversation.reply(payload: [1]))
        try datapath.expectPassed(request, at: .xdp)
        try datapath.expectForwarded(conversation, request)
        try datapath.expectReturned(conversation, reply, at: .xdp)
        try datapath.setXDPOutput(network.container, true)
        try datapath.expectPassed(request, at: .xdp)
        try datapath.setNextHops(.stale)
        try datapath.expectForwarded(conversation, request)
        try datapath.expectForwarded(conversation, request, at: .xdp)
    }

    @Test(arguments: Kind.all)
    func `what XDP has rewritten for an output that is gone is dropped and counted`(kind: Kind) throws {
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request(), at: .xdp)
        try datapath.setXDPOutput(network.container, false)
        let outcome = try datapath.outcome(of: conversation.request().bytes, at: .xdp)
        #expect(outcome.verdict == .dropped)
        #expect(outcome.counted == ["no_route": 1])
    }

    @Test(arguments: Kind.all)
    func `a frame from another Ethernet address of the client is taken`(kind: Kind) throws {
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        for hook in Hook.allCases {
            let request = conversation.request(payload: [1]).with { $0.ethernet?.source = "02:00:00:00:0a:0a" }
            try datapath.expectForwarded(conversation, request, at: hook)
        }
    }
}
