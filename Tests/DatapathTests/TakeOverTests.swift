import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// A flow on the tuples of one that is over: in that one's slot, where nothing else depends on it (`flow_take_over`).
@Suite struct TakeOverTests {
    @Test(arguments: Way.all)
    func `takes the slot, and counts one flow closed and one opened`(way: Way) throws {
        let (datapath, conversation) = try closed(way)
        let before = try slot(datapath)
        let counted = try counters(datapath, conversation)
        try begin(conversation, datapath, way)
        #expect(try slot(datapath).number == before.number)
        #expect(try slot(datapath).generation == before.generation + 1)
        let counters = try counters(datapath, conversation)
        #expect(counters.opened == counted.opened + 1 && counters.closed == counted.closed + 1)
        #expect(counters.packets == counted.packets + 1)
        try datapath.expectConsistent(originals: 1)
    }

    /// What a container has opened is masqueraded: it takes the slot likewise.
    @Test(arguments: Family.allCases)
    func `of a container takes the slot`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family)
        let outbound = try datapath.open(Outbound(family, .tcp))
        try datapath.expectForwarded(outbound, outbound.request([.fin, .ack]))
        try datapath.expectReturned(outbound, outbound.reply([.fin, .ack]))
        let before = try slot(datapath)
        try datapath.spreadNotes()
        try datapath.withoutAdmission(at: .tc) { try datapath.expectForwarded(outbound, outbound.request(.syn)) }
        #expect(try slot(datapath).number == before.number)
        try datapath.expectConsistent(originals: 1)
    }

    /// All is put back, and the flow ended as any other.
    @Test(arguments: Way.all)
    func `leaves a record that is being written`(way: Way) throws {
        let (datapath, conversation) = try closed(way)
        let before = try slot(datapath)
        try datapath.changeRecord(before.number) { $0.reply.word |= WORD_BUSY.rawValue }
        try begin(conversation, datapath, way)
        try datapath.changeRecord(before.number) { $0.reply.word = 0 }
        #expect(try slot(datapath).number != before.number)
        try datapath.expectConsistent(originals: 1)
    }

    /// So many flows of one client that many tuples stand in their second bucket, or third.
    @Test(arguments: Way.all)
    func `ends and makes anew what does not stand in its first buckets`(way: Way) throws {
        let datapath = try TestDatapath(way.family.standardMappings)
        let crowd = (0..<480).map { port in Conversation(way, .tcp).with { $0.client.port = 32_768 + UInt16(port) } }
        try datapath.changeSettings { $0.max_half_open = $0.max_flows }
        for conversation in crowd {
            try datapath.open(conversation)
            try end(conversation, datapath)
        }
        try datapath.noteArrivals(way.family, at: way.hook)
        _ = try datapath.run(crowd.map { $0.request(.syn).bytes }, at: way.hook)
        try datapath.expectConsistent(originals: 480)
        #expect(try datapath.states().allSatisfy { $0 == .halfOpen })
    }

    @Test(arguments: Way.all)
    func `is as any half-open flow where there are as many as there may be`(way: Way) throws {
        let (datapath, conversation) = try closed(way)
        let other = conversation.with { $0.client.port += 1 }
        try datapath.expectForwarded(other, other.request(.syn))
        let taken = try datapath.datapath.flowCount().halfOpen
        try datapath.changeSettings { $0.max_half_open = UInt32(taken) * (way.family == .ipv4 ? 1 : 2) }
        try datapath.noteArrivals(way.family, at: way.hook)
        _ = try datapath.outcome(of: conversation.request(.syn).bytes, at: way.hook)
        #expect(try datapath.datapath.flowCount().halfOpen <= taken)
        try datapath.expectConsistent()
    }

    /// Who ends flows meanwhile ends either the one before, or the next.
    @Test(arguments: Family.allCases)
    func `is not torn by who ends all flows`(family: Family) throws {
        let datapath = try TestDatapath(family.standardMappings)
        for _ in 0..<10 {
            try datapath.run(nextRequests(datapath, family), beside: { _ = try datapath.datapath.flushFlows() })
            try datapath.expectConsistent()
            _ = try datapath.datapath.flushFlows()
            #expect(try datapath.leftovers() == [])
        }
    }

    // MARK: -

    /// A datapath with a connection that is over.
    private func closed(_ way: Way) throws -> (TestDatapath, Conversation) {
        let datapath = try TestDatapath(way.family.standardMappings)
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        try end(conversation, datapath)
        return (datapath, conversation)
    }

    /// SYNs on the tuples of connections that are over.
    private func nextRequests(_ datapath: TestDatapath, _ family: Family) throws -> [[UInt8]] {
        try (0..<100).map { number in
            let conversation = Conversation(family, .tcp, clientPort: 40_000 + UInt16(number))
            try datapath.open(conversation)
            try end(conversation, datapath)
            return conversation.request(.syn).bytes
        }
    }

    private func end(_ conversation: Conversation, _ datapath: TestDatapath) throws {
        try datapath.expectForwarded(conversation, conversation.request([.fin, .ack]))
        try datapath.expectReturned(conversation, conversation.reply([.fin, .ack]))
    }

    /// Begins the next connection, with nothing to ask.
    private func begin(_ conversation: Conversation, _ datapath: TestDatapath, _ way: Way) throws {
        try datapath.noteArrivals(way.family, at: way.hook)
        try datapath.withoutAdmission(at: way.hook) {
            try datapath.expectForwarded(conversation, conversation.request(.syn), at: way.hook)
        }
    }

    private func counters(_ datapath: TestDatapath, _ conversation: Conversation) throws -> mapping_counters {
        try datapath.datapath.maps.counters(of: datapath.installed(conversation).id)
    }

    private func slot(_ datapath: TestDatapath) throws -> (number: UInt32, generation: UInt16) {
        let live = try #require(try datapath.liveRecords().first)
        return (live.slot, live.record.state.generation)
    }
}

extension TestDatapath {
    fileprivate func changeRecord(_ slot: UInt32, _ change: (inout flow) -> Void) throws {
        var record = try #require(try maps.record(slot))
        change(&record)
        try maps.setRecord(slot, record)
    }
}
