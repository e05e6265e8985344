import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// What happens when there are more flows than there may be.
@Suite struct FlowLimitTests {
    @Test(arguments: Kind.all)
    func `half-open flows give way to new ones, open flows never do`(kind: Kind) throws {
        let datapath = try TestDatapath(flows: 1_024 * kind.family.places)
        let open = (0..<20).map { Conversation(kind.family, kind.transport, clientPort: 50_000 + $0) }
        for conversation in open { try datapath.open(conversation) }
        let limit = try datapath.datapath.flowCount().halfOpenLimit
        #expect(limit == 256 * kind.family.places)
        let flood = (0..<1_000).map {
            Conversation(kind.family, kind.transport, clientPort: 1_024 + $0).request(.syn).bytes
        }
        let results = try datapath.run(flood, at: .tc)
        let forwarded = results.count { $0.action == 7 }
        let dropped = results.count { $0.action == 2 }
        #expect(forwarded + dropped == flood.count)
        // Of 32 slots that it looks at, about a quarter are half-open: it finds none once in 10,000 times.
        #expect(dropped < 10)
        #expect(try datapath.count("half_open_full") == UInt64(dropped))
        let count = try datapath.datapath.flowCount()
        #expect(count.halfOpen == 256)
        #expect(count.flows == 256 + open.count)
        for conversation in open {
            try datapath.expectForwarded(conversation, conversation.request())
            try datapath.expectReturned(conversation, conversation.reply())
        }
        #expect(try datapath.states().count == count.flows)
    }

    @Test(arguments: Kind.all)
    func `a full table refuses new flows, and those that live go on`(kind: Kind) throws {
        let datapath = try TestDatapath(flows: 1_024 * kind.family.places)
        let all = (0..<1_024).map { Conversation(kind.family, kind.transport, clientPort: 20_000 + $0) }
        // A new flow looks at some places alone. Where this thread has moved to another CPU, whose cursor is elsewhere, the last
        // ones may take several tries.
        for conversation in all {
            let refused = try datapath.count("table_full")
            for _ in 0..<8 {
                try datapath.openSilently(conversation)
                if try datapath.count("table_full") == refused { break }
            }
        }
        #expect(try datapath.states().count == 1_024)
        let oneMore = Conversation(kind)
        for _ in 0..<2 { try datapath.expectDropped(oneMore.request(.syn), counting: "table_full") }
        try datapath.expectPassed(oneMore.request(.syn), at: .xdp)
        for (index, conversation) in all.enumerated() where index % 41 == 0 {
            for hook in Hook.allCases {
                try datapath.expectForwarded(conversation, conversation.request(payload: [1]), at: hook)
                try datapath.expectReturned(conversation, conversation.reply(payload: [1]), at: hook)
            }
        }
        #expect(try datapath.datapath.flowCount().flows == 1_024)
        #expect(try datapath.datapath.flushFlows() == 1_024)
        try datapath.open(oneMore)
    }

    @Test(arguments: Kind.all, [1_024, 4_096])
    func `in a full table, half-open flows give way to new ones`(kind: Kind, places: Int) throws {
        let datapath = try TestDatapath(flows: places)
        try datapath.changeSettings { $0.max_half_open = $0.max_flows }
        let size = UInt16(places / kind.family.places)
        func send(_ numbers: Range<UInt16>) throws {
            let flood = numbers.map {
                Conversation(kind.family, kind.transport, clientPort: 1_024 + $0).request(.syn).bytes
            }
            #expect(try datapath.run(flood, at: .tc).allSatisfy { $0.action == 7 })
        }
        try send(0..<size + 76)
        // Where this thread has moved to another CPU, half-open flows may give way before the last places are found.
        for more in 0..<8 where try datapath.datapath.flowCount().flows < size {
            try send(size + 76 + UInt16(more) * 76..<size + 152 + UInt16(more) * 76)
        }
        #expect(try datapath.datapath.flowCount().flows == size)
        try datapath.expectConsistent(originals: Int(size))
    }

    @Test(arguments: Kind.all)
    func `a flow whose first packet gets nowhere is not kept`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.expectReported(
            conversation.request(.syn).with { $0.ttl = 1 }, as: .timeExceeded, counting: "ttl_expired")
        #expect(try datapath.leftovers() == [])
        try datapath.open(conversation)
    }

    @Test(arguments: Kind.all)
    func `without room for half-open flows, new ones are refused`(kind: Kind) throws {
        let datapath = try TestDatapath()
        try datapath.changeSettings { $0.max_half_open = 0 }
        try datapath.expectDropped(Conversation(kind).request(.syn), counting: "half_open_full")
        #expect(try datapath.leftovers() == [])
        try datapath.changeSettings { $0.max_half_open = UInt32(kind.family.places) }
        try datapath.open(Conversation(kind))
    }

    @Test(arguments: Kind.all)
    func `a limit below the table's size holds`(kind: Kind) throws {
        let datapath = try TestDatapath()
        try datapath.changeSettings { $0.max_flows = UInt32(3 * kind.family.places) }
        let conversations = (0..<3).map { Conversation(kind.family, kind.transport, clientPort: 30_000 + $0) }
        for conversation in conversations { try datapath.open(conversation) }
        try datapath.expectDropped(Conversation(kind).request(.syn), counting: "table_full")
        _ = try datapath.datapath.flushFlows()
        try datapath.open(Conversation(kind))
    }

    @Test(arguments: Kind.all)
    func `where many flows in a row live on, a table that has room takes new ones`(kind: Kind) throws {
        let datapath = try TestDatapath(flows: 32_768)
        let words = UInt32(datapath.maps.slots.capacity) / 2
        for word in 0..<words { try datapath.maps.slots.set(word, .max) }
        let conversations = (0..<8).map { number in Conversation(kind).with { $0.client.port += number } }
        let opened = Result { for conversation in conversations { try datapath.open(conversation) } }
        for word in 0..<words { try datapath.maps.slots.set(word, 0) }
        try opened.get()
        try datapath.expectConsistent(originals: conversations.count)
    }

    @Test(arguments: Kind.all)
    func `the last place of a table is found, wherever it is`(kind: Kind) throws {
        let datapath = try TestDatapath(flows: 32_768)
        let slots = datapath.maps.slots.capacity
        for (number, word) in [0, slots / 3, slots - 1].enumerated() {
            let place: UInt64 = (kind.family.places == 2 ? 0b11 : 0b1) << 30
            for other in 0..<slots { try datapath.maps.slots.set(other, .max) }
            try datapath.maps.slots.set(word, ~place)
            let opened = Result { try datapath.open(Conversation(kind).with { $0.client.port += UInt16(number) }) }
            let taken = try datapath.maps.slots.value(word)
            for other in 0..<slots { try datapath.maps.slots.set(other, other == word ? place : 0) }
            try opened.get()
            #expect(taken == .max)
            try datapath.expectConsistent(originals: 1)
            _ = try datapath.datapath.flushFlows()
        }
    }

    @Test(arguments: Kind.all)
    func `slots and index entries are used again and again`(kind: Kind) throws {
        let datapath = try TestDatapath()
        for round in 0..<5 {
            for port in 0..<200 {
                try datapath.openSilently(
                    Conversation(kind.family, kind.transport, clientPort: UInt16(10_000 + round * 1_000 + port)))
            }
            #expect(try datapath.states().count == 200)
            #expect(try datapath.datapath.flushFlows() == 200)
            #expect(try datapath.leftovers() == [])
        }
    }
}

extension TestDatapath {
    /// Opens a flow without looking at each packet.
    func openSilently(_ conversation: Conversation) throws {
        _ = try run([conversation.request(.syn).bytes], at: .tc)
        _ = try run([conversation.reply([.syn, .ack]).bytes], at: .tc, on: .container)
        if conversation.transport != .udp { _ = try run([conversation.request().bytes], at: .tc) }
    }

    /// How often a reason was counted.
    func count(_ reason: String) throws -> UInt64? {
        try datapath.reasonCounts().first { $0.name == reason }?.packets
    }

    /// Changes what the loader has told the datapath, until the test ends.
    func changeSettings(_ change: (inout settings) -> Void) throws {
        var settings = try maps.currentSettings()
        change(&settings)
        try maps.settings.set(0, settings)
    }
}
