import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Limits on the flows of a mapping or masquerade, all in all and of one source.
@Suite struct LimitTests {
    @Test(arguments: TransportWay.all)
    func `a mapping has no more flows than its limit, and those that live go on`(way: TransportWay) throws {
        let datapath = try TestDatapath(limited(way.family, "limit-flows=3") + [way.family.mapping("81/tcp", to: "81")])
        for number in 0..<3 { try datapath.open(conversation(way, number)) }
        for _ in 0..<2 { try datapath.expectDropped(conversation(way, 3).request(.syn), counting: "flow_limit") }
        try datapath.expectPassed(conversation(way, 3).request(.syn), at: .xdp)
        for number in 0..<3 {
            let conversation = conversation(way, number)
            try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: way.hook)
            try datapath.expectReturned(conversation, conversation.reply(payload: [1]), at: way.hook)
        }
        let other = Conversation(way.family, .tcp).with { ($0.published.port, $0.target.port) = (81, 81) }
        try datapath.open(other)
        try datapath.expectConsistent(originals: 4)
    }

    /// What can end a flow.
    enum End: CaseIterable {
        case flush, sweep, shutdown, resetByTarget, eviction, withoutRoute
    }

    @Test(arguments: Kind.all, End.allCases)
    func `a flow that ends gives its place back, whatever ends it`(kind: Kind, end: End) throws {
        let datapath = try TestDatapath(
            limited(kind.family, "limit-flows=1 limit-flows-per-source=1"), timeouts: FlowExpiryTests.spread)
        let first = conversation(kind, 0), second = conversation(kind, 1)
        if [End.shutdown, .resetByTarget].contains(end), kind.transport == .udp { return }
        switch end {
        case .flush:
            try datapath.open(first)
            #expect(try datapath.datapath.flushFlows() == 1)
        case .sweep:
            try datapath.open(first)
            try datapath.age(by: 135)
            try datapath.sweep()
        case .shutdown:
            try datapath.open(first)
            try datapath.expectForwarded(first, first.request([.fin, .ack]))
            try datapath.expectDropped(second.request(.syn), counting: "source_flow_limit")
            try datapath.expectReturned(first, first.reply([.fin, .ack]))
        case .resetByTarget:
            try datapath.expectForwarded(first, first.request(.syn))
            try datapath.expectReturned(first, first.reply([.rst, .ack]))
        case .eviction:
            try datapath.expectForwarded(first, first.request(.syn))
            try datapath.changeSettings { $0.max_half_open = UInt32(kind.family.places) }
            try datapath.add([kind.family.mapping("81/udp", to: "81")])
            let other = Conversation(kind.family, .udp).with { ($0.published.port, $0.target.port) = (81, 81) }
            try datapath.evict(first, by: other)
            try datapath.changeSettings { $0.max_half_open = 256 }
        case .withoutRoute:
            try datapath.expectReported(
                first.request(.syn).with { $0.ttl = 1 }, as: .timeExceeded, counting: "ttl_expired")
        }
        try datapath.open(second)
        try datapath.expectConsistent()
    }

    @Test(arguments: Family.allCases)
    func `a client that resets its connection keeps its place: the target may not have believed it`(family: Family)
        throws
    {
        let datapath = try TestDatapath(limited(family, "limit-flows-per-source=1"))
        let kind = Kind(family: family, transport: .tcp)
        let first = conversation(kind, 0)
        try datapath.open(first)
        try datapath.expectForwarded(first, first.request(.rst))
        try datapath.expectDropped(conversation(kind, 1).request(.syn), counting: "source_flow_limit")
        try datapath.expectForwarded(first, first.request(payload: [1]))
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Kind.all)
    func `a source at its limit leaves others untouched`(kind: Kind) throws {
        let datapath = try TestDatapath(limited(kind.family, "limit-flows-per-source=2"))
        for number in 0..<2 { try datapath.open(conversation(kind, number)) }
        try datapath.expectDropped(conversation(kind, 2).request(.syn), counting: "source_flow_limit")
        for number in 0..<2 { try datapath.open(conversation(kind, number).far(kind.family)) }
        try datapath.expectDropped(
            conversation(kind, 2).far(kind.family).request(.syn), counting: "source_flow_limit")
        try datapath.expectConsistent(originals: 4)
    }

    @Test func `over IPv6 a source is a network of 64 bits, over IPv4 an address`() throws {
        let datapath = try TestDatapath(Family.allCases.flatMap { limited($0, "limit-flows-per-source=1") })
        for (family, neighbour, isSame) in [
            (Family.ipv4, "198.51.100.6", false), (.ipv6, "2001:db8:99::ffff:1", true),
            (.ipv6, "2001:db8:99:1::7", false),
        ] as [(Family, Packet.Address, Bool)] {
            let first = Conversation(family, .udp).far(family)
            if try datapath.states().isEmpty || family == .ipv6 {
                _ = try datapath.run([first.request().bytes], at: .tc)
            }
            let other = first.with { $0.client.address = neighbour }
            if isSame {
                try datapath.expectDropped(other.request(), counting: "source_flow_limit")
            } else {
                try datapath.open(other)
            }
        }
    }

    @Test(arguments: Kind.all)
    func `no more flows begin than the rate allows, then one in each interval`(kind: Kind) throws {
        let datapath = try TestDatapath(limited(kind.family, "limit-rate=5/m"))
        for number in 0..<5 { try datapath.open(conversation(kind, number)) }
        for _ in 0..<3 { try datapath.expectDropped(conversation(kind, 5).request(.syn), counting: "rate_limit") }
        try datapath.expectDropped(conversation(kind, 5).far(kind.family).request(.syn), counting: "rate_limit")
        try datapath.letPass(seconds: 12)
        try datapath.open(conversation(kind, 5))
        try datapath.expectDropped(conversation(kind, 6).request(.syn), counting: "rate_limit")
        // What has not been used for long is not saved up.
        try datapath.letPass(seconds: 3_600)
        for number in 6..<11 { try datapath.open(conversation(kind, number)) }
        try datapath.expectDropped(conversation(kind, 11).request(.syn), counting: "rate_limit")
        try datapath.expectConsistent(originals: 11)
    }

    @Test(arguments: Kind.all)
    func `each source has its own rate`(kind: Kind) throws {
        let datapath = try TestDatapath(limited(kind.family, "limit-rate-per-source=3/m"))
        for number in 0..<3 { try datapath.open(conversation(kind, number)) }
        try datapath.expectDropped(conversation(kind, 3).request(.syn), counting: "source_rate_limit")
        for number in 0..<3 { try datapath.open(conversation(kind, number).far(kind.family)) }
        try datapath.expectDropped(
            conversation(kind, 3).far(kind.family).request(.syn), counting: "source_rate_limit")
    }

    @Test func `a source's rate comes back with time`() throws {
        let datapath = try TestDatapath(limited(.ipv4, "limit-rate-per-source=4/s"))
        let kind = Kind(family: .ipv4, transport: .udp)
        let requests = (0..<50).map { conversation(kind, $0).request().bytes }
        #expect(try datapath.run(requests, at: .tc).prefix(4).allSatisfy { $0.action == 7 })
        let before = try datapath.datapath.flowCount().flows
        try eventually("one more flow of the source") {
            _ = try datapath.run(requests, at: .tc)
            return try datapath.datapath.flowCount().flows > before
        }
    }

    @Test func `100,000 sources make no room for one that has used up its rate, and fill no table of flows`() throws {
        let datapath = try TestDatapath(limited(.ipv4, "limit-flows-per-source=2 limit-rate-per-source=10/m"))
        let kind = Kind(family: .ipv4, transport: .udp)
        let heavy = (0..<12).map { conversation(kind, $0) }
        let start = ContinuousClock.now
        for conversation in heavy[..<2] { try datapath.open(conversation) }
        for _ in 0..<8 {
            try datapath.expectDropped(heavy[2].request(), counting: "source_flow_limit")
        }
        _ = try datapath.datapath.flushFlows()
        for conversation in heavy[..<8] {
            try datapath.open(conversation)
            _ = try datapath.datapath.flushFlows()
        }
        try datapath.expectDropped(heavy[9].request(), counting: "source_rate_limit")
        var frame = conversation(kind, 0).far(.ipv4).request().bytes
        let flood = (0..<100_000).map { number in
            (frame[27], frame[28], frame[29]) = (UInt8(number >> 16), UInt8(number >> 8 & 0xff), UInt8(number & 0xff))
            return frame
        }
        let taken = try datapath.run(flood, at: .tc).count { $0.action == 7 }
        #expect(taken > 99_900)
        #expect(try datapath.count("source_flow_limit") == 8)
        // What it may begin by now: one flow for each six seconds that have passed. Forgotten, it could begin ten at once.
        var begun = 0
        while begun < 10, try datapath.run([heavy[9].request().bytes], at: .tc)[0].action == 7 {
            begun += 1
            _ = try datapath.datapath.flushFlows()
        }
        #expect(begun <= Int((ContinuousClock.now - start) / .seconds(6)))
        try datapath.expectConsistent()
    }

    @Test(arguments: Kind.all, [MasqueradeType.symmetric, .endpointIndependent(.endpoint)])
    func `each container of a masquerade has its own limits`(kind: Kind, type: MasqueradeType) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, type, limits: ["limit-flows-per-source": "2", "limit-flows": "5"])
        let other = Outbound(kind).with {
            $0.container.address = kind.family.otherTarget
            $0.containerMAC = TestNetwork.otherTargetMAC
        }
        let begun = try (0..<2 as Range<UInt16>).map { number in
            try datapath.open(Outbound(kind).with { $0.container.port += number })
        }
        let late = Outbound(kind).with { $0.container.port += 2 }
        try datapath.expectDropped(late.request(.syn), on: .container, counting: "source_flow_limit")
        for number in 0..<2 as Range<UInt16> { _ = try datapath.open(other.with { $0.container.port += 10 + number }) }
        #expect(try datapath.population() == (4, type == .symmetric ? 0 : 4))  // no port is kept for what was refused
        if type != .symmetric {
            let stranger = begun[0].with {
                ($0.server.address, $0.serverMAC) = (kind.family.farClient, TestNetwork.gatewayMAC)
            }
            try datapath.expectDropped(stranger.reply(.syn), counting: "source_flow_limit")
        }
        try datapath.expectConsistent(originals: type == .symmetric ? 4 : 8)
    }

    @Test(arguments: Kind.all)
    func `threads that begin flows together are held to the limits exactly`(kind: Kind) throws {
        let datapath = try TestDatapath(limited(kind.family, "limit-flows=50 limit-flows-per-source=30"))
        let sources = [{ $0 }, { $0.far(kind.family) }] as [@Sendable (Conversation) -> Conversation]
        for _ in 0..<5 {
            _ = try inParallel(4) { thread in
                let requests = (0..<100).map { number in
                    sources[thread % 2](conversation(kind, thread * 100 + number)).request(.syn).bytes
                }
                return try datapath.run(requests, at: .tc)
            }
            try datapath.expectConsistent()
            for source in sources {
                _ = try datapath.run((0..<60).map { source(conversation(kind, 600 + $0)).request(.syn).bytes }, at: .tc)
            }
            let flows = try datapath.datapath.flows().map(\.original.source.address)
            #expect(flows.count == 50)
            #expect(Dictionary(grouping: flows) { $0 }.values.allSatisfy { $0.count <= 30 })
            _ = try inParallel(2) { _ in try datapath.datapath.flushFlows() }
            #expect(try datapath.leftovers() == [])
        }
    }

    @Test(arguments: Kind.all)
    func `threads that end flows while others begin them lose and keep no place`(kind: Kind) throws {
        let datapath = try TestDatapath(limited(kind.family, "limit-flows=40 limit-flows-per-source=40"))
        let conversations = (0..<40).map { conversation(kind, $0) }
        _ = try inParallel(4) { thread in
            for _ in 0..<15 {
                if thread == 3 {
                    for _ in 0..<4 { _ = try datapath.datapath.flushFlows() }
                } else {
                    _ = try datapath.run(conversations.map { $0.request(.syn).bytes }, at: .tc)
                    _ = try datapath.run(conversations.map { $0.reply([.rst, .ack]).bytes }, at: .tc, on: .container)
                }
            }
        }
        try datapath.expectConsistent()
        _ = try datapath.datapath.flushFlows()
        #expect(try datapath.leftovers() == [])
    }

    @Test(arguments: Kind.all)
    func `a mapping that takes another one's place has its own limits and counts its own flows`(kind: Kind) throws {
        let datapath = try TestDatapath(limited(kind.family, "limit-flows=1 limit-rate=1/m"))
        try datapath.open(conversation(kind, 0))
        try datapath.expectDropped(conversation(kind, 1).request(.syn), counting: "flow_limit")
        let wider = try limited(kind.family, "limit-flows=2 limit-rate=9/m").map { try PortMapping(parsing: $0) }
        try datapath.datapath.replaceMappings(wider)
        #expect(
            try datapath.datapath.mappings().map(\.mapping)
                == wider.sorted { $0.listen.transport < $1.listen.transport })
        for number in 1...2 { try datapath.open(conversation(kind, number)) }
        try datapath.expectDropped(conversation(kind, 3).request(.syn), counting: "flow_limit")
        let open = try kind.family.standardMappings.map { try PortMapping(parsing: $0) }
        try datapath.datapath.replaceMappings(open)
        #expect(try datapath.maps.limits.keys().isEmpty)
        for number in 4...9 { try datapath.open(conversation(kind, number)) }
        _ = try datapath.datapath.flushFlows()
        #expect(try datapath.leftovers() == [])
    }

    @Test func `limits that a killed command has left are taken away by the next change`() throws {
        let datapath = try TestDatapath(limited(.ipv4, "limit-flows=1"))
        try datapath.masquerade(.ipv4, limits: ["limit-flows": "7"])
        let ids = Set(try datapath.maps.limits.keys())
        for id in [100, MAX_MAPPINGS.rawValue + 100] {
            try datapath.maps.setLimits(try FlowLimits(["limit-flows": "9"]), of: id)
        }
        try datapath.maps.noteChange { $0.first_free_id = 0 }
        try datapath.add([Family.ipv4.mapping("99/tcp", to: "99")])
        try datapath.masquerade(.ipv6)
        #expect(Set(try datapath.maps.limits.keys()) == ids)
        #expect(try datapath.datapath.masquerades { "#\($0)" }.first?.rule.limits.flows == 7)
    }

    private func limited(_ family: Family, _ limits: String) -> [String] {
        family.standardMappings.map { "\($0) \(limits)" }
    }
}

private func conversation(_ kind: Kind, _ number: Int) -> Conversation {
    Conversation(kind.family, kind.transport, clientPort: UInt16(30_000 + number))
}

private func conversation(_ way: TransportWay, _ number: Int) -> Conversation {
    conversation(Kind(family: way.family, transport: way.transport), number)
}

extension Conversation {
    /// The same of the client behind the gateway.
    fileprivate func far(_ family: Family) -> Conversation {
        with {
            $0.client.address = family.farClient
            $0.clientMAC = TestNetwork.gatewayMAC
        }
    }
}

extension FlowLimits {
    init(_ texts: [String: String]) throws {
        self.init()
        for (name, text) in texts { try set(try #require(FlowLimit(rawValue: name)), to: text) }
    }
}

extension TestDatapath {
    /// Makes what the rates of mappings have used up so many seconds older.
    fileprivate func letPass(seconds: UInt64) throws {
        for id in try maps.limits.keys() {
            let due = try maps.limitDues.value(id) ?? 0
            try maps.limitDues.set(id, due - min(due, seconds * 1_000_000_000))
        }
    }

    /// Has a half-open flow give way: of 1,024 slots, as many are looked at as it takes.
    fileprivate func evict(_ first: Conversation, by other: Conversation) throws {
        for number in 0..<2_000 as Range<UInt16>
        where try datapath.flows().contains(where: { $0.original.source.port == first.client.port }) {
            _ = try run([other.with { $0.client.port = 1_024 + number }.request(.syn).bytes], at: .tc)
        }
    }
}
