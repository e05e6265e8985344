import BPF
import CDatapath
import FastNATTesting
import Glibc
import Testing

@testable import FastNAT

/// The timer that ends idle flows. One after another: they wait more than they work, and each waiting one holds a
/// datapath.
@Suite(.serialized) struct FlowExpiryTests {
    @Test func `in real time, idle flows of every state end, and nothing is left of them`() throws {
        let datapath = try TestDatapath()
        for family in Family.allCases {
            for conversation in Stages(family).all { try datapath.reach(conversation) }
        }
        #expect(try datapath.datapath.flowCount().flows == 10)
        #expect(try datapath.datapath.flowCount().halfOpen == 4)
        try datapath.changeSettings { settings in
            settings.timeouts = timeouts(tcp_half_open: 1, tcp_open: 1, tcp_closing: 1, udp: 1, icmp: 1)
        }
        try datapath.startSweep()
        try datapath.awaitFlows(0)
        #expect(try datapath.leftovers() == [])
        #expect(try datapath.datapath.mappings().allSatisfy { $0.flows == 0 })
        let count = try datapath.datapath.flowCount()
        #expect(count.sweepSteps > 0)
        #expect(count.longestSweepStep < 1_000_000)
    }

    /// Seconds without a packet, and the flows that such a time does not end.
    static let survivors: [(seconds: UInt64, states: Set<FlowState>)] = [
        (0, [.halfOpen, .closing, .unreplied, .replied, .established]),
        (45, [.closing, .unreplied, .replied, .established]),
        (75, [.unreplied, .replied, .established]),
        (105, [.established]),
        (135, []),
    ]

    @Test(arguments: Family.allCases, survivors)
    func `each timeout is for its own flows`(
        family: Family, survivors: (seconds: UInt64, states: Set<FlowState>)
    ) throws {
        let datapath = try TestDatapath(timeouts: Self.spread)
        for stage in Stages(family).all { try datapath.reach(stage) }
        try datapath.age(by: survivors.seconds)
        try datapath.sweep()
        #expect(try Set(datapath.states()) == survivors.states)
        #expect(try datapath.datapath.flowCount().flows == survivors.states.count)
    }

    /// Times are differences of 32 bits.
    @Test(arguments: Family.allCases, [(days: 29, isAlive: true), (days: 31, isAlive: false)] as [(UInt64, Bool)])
    func `the longest timeout is kept to`(family: Family, silence: (days: UInt64, isAlive: Bool)) throws {
        var timeouts = Timeouts()
        timeouts.tcpOpen = 30 * 86_400
        let datapath = try TestDatapath(timeouts: timeouts.validated())
        try datapath.open(Conversation(family, .tcp))
        try datapath.age(by: silence.days * 86_400)
        let expires = try #require(try datapath.datapath.flows().first?.expires)
        #expect(expires == 0 || silence.isAlive)
        #expect(abs(expires - 86_400) < 3_600 || !silence.isAlive)
        try datapath.sweep()
        #expect(try datapath.datapath.flowCount().flows == (silence.isAlive ? 1 : 0))
    }

    @Test(arguments: Family.allCases)
    func `a flow's age is told up to half a year`(family: Family) throws {
        let datapath = try TestDatapath()
        try datapath.open(Conversation(family, .tcp))
        #expect(try #require(try datapath.datapath.flows().first?.age) < 600)
        let (slot, live) = try #require(try datapath.liveRecords().first)
        var record = live
        record.reply.word &-= UInt32((180 * 86_400 * 1_000_000_000) >> 30) << WORD_CREATED_SHIFT.rawValue
        try datapath.maps.setRecord(slot, record)
        let age = try #require(try datapath.datapath.flows().first?.age)
        #expect(abs(age - 180 * 86_400) < 600)
    }

    @Test(arguments: TransportWay.all, [Side.uplink, .container])
    func `a packet of either direction at either hook keeps its flow alive`(way: TransportWay, side: Side) throws {
        let datapath = try TestDatapath(timeouts: Self.spread)
        let conversation = Conversation(way)
        try datapath.open(conversation)
        try datapath.open(conversation.with { $0.client.port += 1 })
        try datapath.age(by: 135)
        if side == .uplink {
            try datapath.expectForwarded(conversation, conversation.request(), at: way.hook)
        } else {
            try datapath.expectReturned(conversation, conversation.reply(), at: way.hook)
        }
        try datapath.sweep()
        #expect(try datapath.datapath.flows().map(\.original.source.port) == [conversation.client.port])
    }

    @Test(arguments: Way.all, [Side.uplink, .container])
    func `a half-closed connection goes on in one direction, and through ten minutes of silence`(way: Way, side: Side)
        throws
    {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        if side == .uplink {
            try datapath.expectForwarded(conversation, conversation.request([.fin, .ack]), at: way.hook)
        } else {
            try datapath.expectReturned(conversation, conversation.reply([.fin, .ack]), at: way.hook)
        }
        for _ in 0..<3 {
            try datapath.age(by: 600)
            try datapath.sweep()
            #expect(try datapath.states() == [.established])
            if side == .uplink {
                try datapath.expectReturned(conversation, conversation.reply(.ack, payload: [1]), at: way.hook)
            } else {
                try datapath.expectForwarded(conversation, conversation.request(.ack, payload: [1]), at: way.hook)
            }
        }
    }

    @Test(arguments: Way.all)
    func `a forged RST shortens no silence of a connection that speaks once more`(way: Way) throws {
        let datapath = try TestDatapath(timeouts: Self.spread)
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        try datapath.expectForwarded(conversation, conversation.request(.rst), at: way.hook)
        try datapath.age(by: 45)
        try datapath.sweep()
        #expect(try datapath.states() == [.closing])
        try datapath.expectReturned(conversation, conversation.reply(.ack, payload: [1]), at: way.hook)
        try datapath.age(by: 105)
        try datapath.sweep()
        #expect(try datapath.states() == [.established])
    }

    @Test(arguments: Way.all)
    func `a packet that is not forwarded keeps no flow alive`(way: Way) throws {
        let datapath = try TestDatapath(timeouts: Self.spread)
        let conversation = Conversation(way, .udp)
        try datapath.open(conversation)
        try datapath.age(by: 135)
        try datapath.expectReported(
            conversation.request().with { $0.ttl = 1 }, as: .timeExceeded, at: way.hook, counting: "ttl_expired")
        try datapath.sweep()
        #expect(try datapath.states() == [])
    }

    /// Far enough apart that a test which is held up does not take one for another.
    static var spread: Timeouts {
        var timeouts = Timeouts()
        (timeouts.tcpHalfOpen, timeouts.tcpClosing, timeouts.udp, timeouts.tcpOpen) = (30, 60, 90, 120)
        return timeouts
    }
}

/// One conversation for each state that a flow can be in.
private struct Stages {
    let all: [(conversation: Conversation, state: FlowState)]

    init(_ family: Family) {
        let tcp: [FlowState] = [.halfOpen, .established, .closing]
        let udp: [FlowState] = [.unreplied, .replied]
        all =
            tcp.enumerated().map { (Conversation(family, .tcp, clientPort: 40_000 + UInt16($0)), $1) }
            + udp.enumerated().map { (Conversation(family, .udp, clientPort: 40_000 + UInt16($0)), $1) }
    }
}

extension TestDatapath {
    /// Brings a conversation's flow into a state.
    fileprivate func reach(_ stage: (conversation: Conversation, state: FlowState)) throws {
        let conversation = stage.conversation
        switch stage.state {
        case .halfOpen, .unreplied: try expectForwarded(conversation, conversation.request(.syn))
        case .established, .replied: try open(conversation)
        case .closing:
            try open(conversation)
            try expectReturned(conversation, conversation.reply(.rst))
        case .endpoint: break  // no mapping makes one
        }
    }

    /// Makes every flow's last packet so many seconds older.
    func age(by seconds: UInt64) throws {
        let units = UInt32((seconds * 1_000_000_000) >> 20)
        for (slot, record) in try liveRecords() {
            var flow = record
            flow.original.last_seen &-= units
            flow.reply.last_seen &-= units
            try maps.setRecord(slot, flow)
        }
    }

    /// Has the table swept once: 1,024 flows are one step.
    func sweep() throws {
        let before = try datapath.flowCount().sweepSteps
        try startSweep()
        try eventually("a step of the sweep") { try datapath.flowCount().sweepSteps > before }
    }

    /// Waits until so many flows are left.
    func awaitFlows(_ count: Int) throws {
        try eventually("\(count) flows are left") { try datapath.flowCount().flows == count }
    }
}

/// Waits for a condition, and keeps the thread meanwhile: a test that gave it away might get it back minutes later, when its
/// flows have expired.
func eventually(_ what: String, _ condition: () throws -> Bool) throws {
    let deadline = ContinuousClock.now + .seconds(10)
    while try !condition() {
        if ContinuousClock.now > deadline { throw TestingError.timedOut(what) }
        usleep(2_000)
    }
}
