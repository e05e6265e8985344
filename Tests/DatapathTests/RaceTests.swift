import BPF
import CDatapath
import FastNATTesting
import Synchronization
import Testing

@testable import FastNAT

/// Two CPUs that do at the same moment what must happen once. How often they really meet depends on the machine; what
/// is asserted holds whenever they do.
@Suite(.serialized) struct RaceTests {
    @Test(arguments: Kind.all)
    func `one flow begun twice is one flow`(kind: Kind) throws {
        let datapath = try TestDatapath(flows: 1_024 * kind.family.places)
        let requests = (0..<200).map { Conversation(kind, from: 30_000 + $0).request(.syn).bytes }
        for _ in 0..<5 {
            try datapath.race(requests, requests)
            try datapath.expectConsistent(originals: 200)
            #expect(try datapath.datapath.flushFlows() == 200)
            #expect(try datapath.leftovers() == [])
        }
    }

    @Test(arguments: Kind.all)
    func `two flows that want the same source port get two`(kind: Kind) throws {
        let datapath = try TestDatapath(
            ["8080", "8081"].map { kind.family.mapping("\($0)/\(kind.transport)", to: "80") },
            flows: 1_024 * kind.family.places)
        let requests = [8080, 8081].map { port in
            (0..<100).map { Conversation(kind, from: 30_000 + $0, to: port).request(.syn).bytes }
        }
        for _ in 0..<5 {
            try datapath.race(requests[0], requests[1])
            try datapath.expectConsistent(originals: 200)
            #expect(try datapath.datapath.flushFlows() == 200)
            #expect(try datapath.leftovers() == [])
        }
    }

    @Test(arguments: Kind.all)
    func `the last slots of the table are taken once each`(kind: Kind) throws {
        let datapath = try TestDatapath(flows: 1_024 * kind.family.places)
        try datapath.changeSettings { $0.max_half_open = $0.max_flows }
        let requests = [10_000, 20_000].map { first in
            (0..<600).map { Conversation(kind, from: first + $0).request(.syn).bytes }
        }
        for _ in 0..<10 {
            try datapath.race(requests[0], requests[1], refusing: "table_full")
            try datapath.expectConsistent(originals: 1_024)
            #expect(try datapath.datapath.flushFlows() == 1_024)
        }
    }

    @Test(arguments: Kind.all)
    func `flows that two end are ended once`(kind: Kind) throws {
        let datapath = try TestDatapath(flows: 1_024 * kind.family.places)
        try datapath.changeSettings { $0.max_half_open = $0.max_flows }
        let requests = (0..<500).map { Conversation(kind, from: 30_000 + $0).request(.syn).bytes }
        for _ in 0..<10 {
            _ = try datapath.run(requests, at: .tc)
            let rendezvous = Rendezvous(of: 2)
            let ended = try inParallel(2) { _ in
                rendezvous.meet(0)
                return try datapath.datapath.flushFlows()
            }
            #expect(ended.reduce(0, +) == 500)
            #expect(try datapath.leftovers() == [])
            #expect(try datapath.datapath.mappings().allSatisfy { $0.flows == 0 })
        }
    }

    /// A flow whose first packet gets nowhere leaves its slot to the next, which is of another mapping.
    @Test(arguments: Family.allCases)
    func `a cut never reaches the flow that takes the slot of the one it was meant for`(family: Family) throws {
        let datapath = try TestDatapath(["8080", "8081"].map { family.mapping("\($0)/tcp", to: "80") })
        let kind = Kind(family: family, transport: .tcp)
        let cut = try datapath.installed(Conversation(kind)).mapping.listen
        let id = try #require(try datapath.maps.mappingEntries().first { $0.mapping.listen == cut }?.value.id)
        let packets = (0..<400).flatMap { number in
            [
                Conversation(kind, from: 30_000 + number).request(.syn).with { $0.ttl = 1 },
                Conversation(kind, from: 30_000 + number, to: 8_081).request(.syn),
            ].map(\.bytes)
        }
        let isOver = Atomic(false)
        let lost = try inParallel(2) { thread in
            guard thread == 0 else {
                while !isOver.load(ordering: .relaxed) { _ = try datapath.datapath.flush([id], .cut) }
                return 0
            }
            defer { isOver.store(true, ordering: .relaxed) }
            return try (0..<20).reduce(0) { sum, _ in
                _ = try datapath.run(packets, at: .tc)
                let others = try datapath.datapath.flows().filter { $0.original.destination.port == 8_081 }
                _ = try datapath.datapath.flushFlows()
                return sum + others.count { $0.state != .halfOpen }
            }
        }
        #expect(lost.reduce(0, +) == 0)
    }

    /// As if a packet of each slot's former flow was still writing its next hop.
    @Test(arguments: Kind.outbound)
    func `a packet that never gets its flow is counted once, and not passed`(kind: Kind) throws {
        let datapath = try TestDatapath()
        try datapath.masquerade(kind.family)
        try datapath.setBusy(true)
        if kind.transport != .icmp {
            try datapath.expectDropped(Conversation(kind, from: 30_000).request(.syn), counting: "flow_race")
        }
        try datapath.expectDropped(Outbound(kind).request(.syn), on: .container, counting: "flow_race")
        try datapath.setBusy(false)
        _ = try datapath.open(Outbound(kind))
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Family.allCases)
    func `no UDP flow outlives its mapping`(family: Family) throws {
        let datapath = try TestDatapath([])
        let requests = (0..<100).map { Conversation(Kind(family: family, transport: .udp), from: 30_000 + $0) }
            .map { $0.request().bytes }
        for _ in 0..<20 {
            try datapath.add(family.standardMappings)
            try datapath.run(requests, beside: { try datapath.datapath.removeAllMappings() })
            #expect(try datapath.states() == [])
        }
    }

    @Test(arguments: Family.allCases)
    func `a closing flow that two SYNs renew is one flow`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversations = (0..<100).map { Conversation(Kind(family: family, transport: .tcp), from: 30_000 + $0) }
        for conversation in conversations { try datapath.openSilently(conversation) }
        for _ in 0..<5 {
            _ = try datapath.run(conversations.map { $0.reply(.rst).bytes }, at: .tc, on: .container)
            let requests = conversations.map { $0.request(.syn).bytes }
            try datapath.race(requests, requests)
            #expect(try datapath.states().allSatisfy { $0 == .halfOpen })
            try datapath.expectConsistent(originals: 100)
        }
    }
}

extension Conversation {
    fileprivate init(_ kind: Kind, from clientPort: Int, to port: Int = 8080) {
        self.init(kind.family, kind.transport, clientPort: UInt16(clientPort))
        published.port = UInt16(port)
    }
}

extension TestDatapath {
    /// Marks every slot as one whose next hop is being written, or not.
    fileprivate func setBusy(_ isBusy: Bool) throws {
        for slot in 0..<maps.slotCount {
            guard var flow = try maps.record(slot) else { continue }
            flow.reply.word = isBusy ? WORD_BUSY.rawValue : 0
            flow.parent = .max  // not one with addresses
            try maps.setRecord(slot, flow)
        }
    }

    /// Sends packets at TC while another CPU does something else.
    func run(_ packets: [[UInt8]], beside other: @escaping @Sendable () throws -> Void) throws {
        let rendezvous = Rendezvous(of: 2)
        _ = try inParallel(2) { thread in
            rendezvous.meet(0)
            if thread == 0 {
                _ = try self.run(packets, at: .tc)
            } else {
                try other()
            }
        }
    }

    /// Sends two lists of first packets at TC, those of one number at the same moment, and afterwards again those that
    /// a race has cost; `reason` is what else they may be refused for.
    func race(
        _ first: [[UInt8]], _ second: [[UInt8]], on side: Side = .uplink, refusing reason: String? = nil
    ) throws {
        let rendezvous = Rendezvous(of: 2)
        let results = try inParallel(2) { thread in
            try self.run(thread == 0 ? first : second, at: .tc, on: side, before: rendezvous.meet)
        }
        let dropped = results.joined().count { $0.action != 7 }
        let counted = try ["flow_race", reason].compactMap { $0 }.reduce(0) { try $0 + (count($1) ?? 0) }
        #expect(dropped == Int(counted))
        for reason in 0..<REASON_COUNT.rawValue { try maps.reasonCounters.setAll(reason, 0) }
        if reason == nil { #expect(try run(first + second, at: .tc, on: side).allSatisfy { $0.action == 7 }) }
    }
}
