import FastNATTesting
import Testing

@testable import FastNAT

/// A connection on the addresses and ports of one that has ended: its flow begins at once where there is nothing to ask, and
/// the former flow ends with that. Without the programs that ask, TC passes what is theirs.
@Suite struct NextConnectionTests {
    /// How a connection ends, and who may begin the next one without a question.
    enum End: CaseIterable { case closed, refused }

    @Test(arguments: Way.all, End.allCases)
    func `begins at once in place of the one before`(way: Way, end: End) throws {
        let (datapath, conversation) = try prepared(way)
        for _ in 1...3 {
            try self.end(conversation, end, datapath)
            let before = try #require(try datapath.datapath.flows().first)
            try datapath.noteArrivals(way.family, at: way.hook)
            try withoutQuestions(datapath, way.hook) {
                try datapath.expectForwarded(conversation, conversation.request(.syn), at: way.hook)
            }
            let flow = try #require(try datapath.datapath.flows().first)
            #expect(flow.state == .halfOpen && flow.original.packets == 1 && flow.reply.packets == 0)
            #expect(flow.original.source == before.original.source)
            try datapath.expectConsistent(originals: 1)
            try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
            try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: way.hook)
            #expect(try datapath.states() == [.established])
        }
    }

    @Test(arguments: Way.all)
    func `after a RST of the client alone is for others to judge`(way: Way) throws {
        let (datapath, conversation) = try prepared(way)
        try datapath.expectForwarded(conversation, conversation.request(.rst))
        try datapath.noteArrivals(way.family, at: way.hook)
        try withoutQuestions(datapath, way.hook) {
            try datapath.expectPassed(conversation.request(.syn), at: way.hook)
        }
        #expect(try datapath.states() == [.closing])
        try datapath.expectForwarded(conversation, conversation.request(.syn))  // the target knows whose it is
        #expect(try datapath.datapath.flows().first?.original.packets == 4)
    }

    @Test(arguments: Way.all)
    func `where something is to be asked, leaves the flow before to those that ask`(way: Way) throws {
        let (datapath, conversation) = try prepared(way)
        try end(conversation, .closed, datapath)
        try datapath.forget()
        let packets = try datapath.datapath.flows().first?.original.packets
        try withoutQuestions(datapath, way.hook) {
            try datapath.expectPassed(conversation.request(.syn), at: way.hook)
        }
        #expect(try datapath.states() == [.closing])
        #expect(try datapath.datapath.flows().first?.original.packets == packets)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        #expect(try datapath.states() == [.halfOpen])
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Way.all)
    func `goes where the port is published to now`(way: Way) throws {
        let (datapath, conversation) = try prepared(way)
        try end(conversation, .closed, datapath)
        try datapath.datapath.removeMappings([datapath.installed(conversation).mapping.listen])
        try datapath.add([way.family.mapping("8080/tcp", to: "81")])
        let next = conversation.with { $0.target.port = 81 }
        try datapath.open(next.with { $0.client.port += 1 })  // its mapping has a next hop now
        try datapath.noteArrivals(way.family, at: way.hook)
        try withoutQuestions(datapath, way.hook) {
            try datapath.expectForwarded(next, next.request(.syn), at: way.hook)
        }
        try datapath.expectPassed(conversation.reply(), on: .container)
        try datapath.expectReturned(next, next.reply([.syn, .ack]))
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: Way.all)
    func `of a port that is published no more goes up the stack`(way: Way) throws {
        let (datapath, conversation) = try prepared(way)
        try end(conversation, .closed, datapath)
        try datapath.datapath.removeMappings([datapath.installed(conversation).mapping.listen])
        try datapath.noteArrivals(way.family, at: way.hook)
        try datapath.expectPassed(conversation.request(.syn), at: way.hook)
        #expect(try datapath.states() == (way.hook == .tc ? [] : [.closing]))
    }

    @Test(arguments: Way.all)
    func `gets another port where another flow has that of its client`(way: Way) throws {
        let (datapath, conversation) = try prepared(way, also: way.family.mapping("8081/tcp", to: "80"))
        var other = conversation.with { $0.published.port = 8081 }
        let outcome = try datapath.outcome(of: other.request(.syn).bytes, at: .tc)
        #expect(outcome.verdict == .redirected)
        other.translatedPort = try port(of: other, datapath)
        #expect(other.translatedPort != other.client.port)
        try datapath.expectReturned(other, other.reply([.rst, .ack]))
        try datapath.noteArrivals(way.family, at: way.hook)
        try withoutQuestions(datapath, way.hook) { try datapath.expectPassed(other.request(.syn), at: way.hook) }
        #expect(try datapath.outcome(of: other.request(.syn).bytes, at: .tc).verdict == .redirected)
        other.translatedPort = try port(of: other, datapath)
        #expect(other.translatedPort != other.client.port)
        try datapath.expectReturned(other, other.reply([.syn, .ack]))
        try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: way.hook)
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: Way.all)
    func `has the place of the one before, and counts at its rate`(way: Way) throws {
        let mapping = way.family.mapping("8080/tcp", to: "80") + " limit-flows=1 limit-rate=3/m"
        let (datapath, conversation) = try prepared(way, mappings: [mapping])
        for _ in 2...3 {
            try end(conversation, .closed, datapath)
            try datapath.noteArrivals(way.family, at: way.hook)
            try withoutQuestions(datapath, way.hook) {
                try datapath.expectForwarded(conversation, conversation.request(.syn), at: way.hook)
            }
            try datapath.expectReturned(conversation, conversation.reply([.syn, .ack]))
            try datapath.expectForwarded(conversation, conversation.request())
        }
        try end(conversation, .closed, datapath)
        try datapath.noteArrivals(way.family, at: way.hook)
        let outcome = try datapath.outcome(of: conversation.request(.syn).bytes, at: way.hook)
        #expect(outcome.verdict == .dropped && outcome.counted == ["rate_limit": 1])
        try datapath.expectConsistent(originals: 0)
    }

    @Test(arguments: Family.allCases)
    func `of a container begins at once in place of the one before`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family)
        let outbound = try datapath.open(Outbound(family, .tcp))
        for _ in 1...3 {
            try datapath.expectForwarded(outbound, outbound.request([.fin, .ack]))
            try datapath.expectReturned(outbound, outbound.reply([.fin, .ack]))
            try datapath.spreadNotes()
            try withoutQuestions(datapath, .tc) { try datapath.expectForwarded(outbound, outbound.request(.syn)) }
            let flow = try #require(try datapath.datapath.flows().first)
            #expect(flow.state == .halfOpen && flow.original.packets == 1 && flow.reply.packets == 0)
            try datapath.expectConsistent(originals: 1)
            try datapath.expectReturned(outbound, outbound.reply([.syn, .ack]))
            try datapath.expectForwarded(outbound, outbound.request())
            #expect(try datapath.states() == [.established])
        }
        try datapath.expectReturned(outbound, outbound.reply([.rst, .ack]))
        try datapath.forget()
        try withoutQuestions(datapath, .tc) {
            try datapath.expectPassed(outbound.request(.syn), on: .container)
        }
        #expect(try datapath.states() == [.closing])
        #expect(try datapath.open(outbound).external == outbound.external)
    }

    // MARK: -

    /// A datapath with an open connection.
    private func prepared(_ way: Way, mappings: [String]? = nil, also: String? = nil) throws
        -> (TestDatapath, Conversation)
    {
        let datapath = try TestDatapath((mappings ?? way.family.standardMappings) + [also].compactMap(\.self))
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        return (datapath, conversation)
    }

    private func end(_ conversation: Conversation, _ end: End, _ datapath: TestDatapath) throws {
        switch end {
        case .closed:
            try datapath.expectForwarded(conversation, conversation.request([.fin, .ack]))
            try datapath.expectReturned(conversation, conversation.reply([.fin, .ack]))
        case .refused: try datapath.expectReturned(conversation, conversation.reply([.rst, .ack]))
        }
        #expect(try datapath.states() == [.closing])
    }

    private func withoutQuestions(_ datapath: TestDatapath, _ hook: Hook, _ body: () throws -> Void) throws {
        try datapath.withoutAdmission(at: hook) { try datapath.withoutRoutes(at: hook, body) }
    }

    private func port(of conversation: Conversation, _ datapath: TestDatapath) throws -> UInt16 {
        try #require(
            try datapath.datapath.flows().first { $0.original.destination.port == conversation.published.port }
        ).reply.destination.port
    }
}
