import BPF
import FastNATTesting
import Synchronization
import Testing

@testable import FastNAT

/// Several CPUs at once. What is asserted holds for every interleaving.
@Suite struct ConcurrencyTests {
    @Test(arguments: Kind.all)
    func `threads that make the same and other flows leave each tuple in the index once`(kind: Kind) throws {
        let datapath = try TestDatapath(
            [kind.family.mapping("8000-8099/\(kind.transport)", to: "80")], flows: 1_024 * kind.family.places)
        // All threads begin the same 150 flows, some of which want the same source port, and 20 of their own.
        let shared: [Conversation] = (0..<150).map { number in
            conversation(kind, from: 30_000 + number / 3, to: 8_000 + number % 3)
        }
        for _ in 0..<5 {
            let results = try inParallel(4) { thread in
                let own: [Conversation] = (0..<20).map { number in
                    conversation(kind, from: 40_000 + thread * 100 + number, to: 8_050)
                }
                return try datapath.run((shared + own).map { $0.request(.syn).bytes }, at: .tc)
            }
            // A race may cost a packet, but not more.
            #expect(results.joined().allSatisfy { $0.action == 7 || $0.action == 2 })
            #expect(results.joined().count { $0.action == 2 } == Int(try datapath.count("flow_race") ?? 0))
            for packet in Set(shared.map { $0.request(.syn).bytes }) {
                #expect(try datapath.run([packet], at: .tc)[0].action == 7)
            }
            try datapath.expectConsistent(originals: 150 + 4 * 20)
            #expect(try datapath.datapath.flushFlows() == 150 + 4 * 20)
            #expect(try datapath.leftovers() == [])
            try datapath.clearCounters()
        }
    }

    @Test(arguments: Kind.all)
    func `threads that make flows while others end them leave nothing behind`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversations = (0..<100).map { Conversation(kind.family, kind.transport, clientPort: 30_000 + $0) }
        _ = try inParallel(4) { thread in
            for _ in 0..<10 {
                if thread == 3 {
                    for _ in 0..<4 { _ = try datapath.datapath.flushFlows() }
                } else {
                    _ = try datapath.run(conversations.map { $0.request(.syn).bytes }, at: .tc)
                    _ = try datapath.run(conversations.map { $0.reply([.syn, .ack]).bytes }, at: .tc, on: .container)
                    _ = try datapath.run(conversations.map { $0.request(.rst).bytes }, at: .tc)
                }
            }
        }
        try datapath.expectConsistent()
        _ = try datapath.datapath.flushFlows()
        #expect(try datapath.leftovers() == [])
        #expect(try datapath.datapath.mappings().allSatisfy { $0.flows == 0 })
    }

    @Test(arguments: Kind.all)
    func `threads that make more flows than there may be keep to the limits`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let open = (0..<10).map { Conversation(kind.family, kind.transport, clientPort: 60_000 + $0) }
        for conversation in open { try datapath.open(conversation) }
        _ = try inParallel(4) { thread in
            let flood: [Conversation] = (0..<500).map { number in
                conversation(kind, from: 10_000 + thread * 10_000 + number, to: 8_080)
            }
            return try datapath.run(flood.map { $0.request(.syn).bytes }, at: .tc)
        }
        let count = try datapath.datapath.flowCount()
        // Each thread may be over the limit by the one flow that it is making.
        let limit = count.halfOpenLimit / kind.family.places
        #expect((limit...limit + 4).contains(count.halfOpen))
        try datapath.expectConsistent()
        for conversation in open { try datapath.expectForwarded(conversation, conversation.request()) }
    }

    @Test(arguments: Family.allCases)
    func `both directions of open flows at both hooks are always whole and right`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversations = (0..<8).map { Conversation(family, .tcp, clientPort: 30_000 + $0) }
        for conversation in conversations { try datapath.open(conversation) }
        let wrong = Mutex(0)
        _ = try inParallel(4) { thread in
            let hook: Hook = thread % 2 == 0 ? .tc : .xdp
            for round in 0..<40 {
                if thread == 0, round % 4 == 0 { try datapath.setNextHops(.fresh) }
                for conversation in conversations {
                    let (request, reply) = (conversation.request(payload: [9]), conversation.reply(payload: [9]))
                    let results = [
                        (try datapath.run([request.bytes], at: hook)[0], request, conversation.forwarded(request)),
                        (
                            try datapath.run([reply.bytes], at: hook, on: .container)[0], reply,
                            conversation.returned(reply)
                        ),
                    ]
                    for (result, sent, expected) in results {
                        let isRight =
                            hook == .xdp && result.action == 2
                            ? result.packet == sent.bytes : result.packet == expected.bytes
                        if !isRight { wrong.withLock { $0 += 1 } }
                    }
                }
            }
        }
        #expect(wrong.withLock { $0 } == 0)
        try datapath.expectConsistent(originals: 8)
    }

    private func conversation(_ kind: Kind, from clientPort: Int, to port: Int) -> Conversation {
        Conversation(kind.family, kind.transport, clientPort: UInt16(clientPort)).with {
            $0.published.port = UInt16(port)
        }
    }
}
