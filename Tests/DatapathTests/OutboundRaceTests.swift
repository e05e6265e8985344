import Addresses
import BPF
import FastNATTesting
import Testing

@testable import FastNAT

/// Two CPUs that begin flows of containers at once, and flows that all are to stand in one bucket of the index. What is asserted
/// holds whenever the two meet.
@Suite(.serialized) struct OutboundRaceTests {
    @Test(arguments: Kind.all)
    func `one flow begun twice is one flow`(kind: Kind) throws {
        let datapath = try TestDatapath([], flows: 1_024 * kind.family.places)
        try datapath.masquerade(kind.family)
        for _ in 0..<5 {
            let first = try datapath.open(Outbound(kind))
            let requests = (1...200 as ClosedRange<UInt16>).map { first.later($0).request(.syn).bytes }
            try datapath.spreadNotes()
            try datapath.race(requests, requests, on: .container)
            try datapath.expectConsistent(originals: 201)
            #expect(try datapath.datapath.flushFlows() == 201)
            #expect(try datapath.leftovers() == [])
        }
    }

    @Test(arguments: Kind.all)
    func `two flows that want the same external port get two`(kind: Kind) throws {
        let datapath = try TestDatapath([], flows: 1_024 * kind.family.places)
        try datapath.masquerade(kind.family)
        for _ in 0..<5 {
            let first = try datapath.open(Outbound(kind))
            let second = try datapath.open(first.later(1_000).fromOther(kind.family))
            // Of one port both, and of others each its own.
            let requests = [(first, 0), (second, 100)].map { outbound, others in
                (0..<100 as Range<UInt16>).map { number in
                    outbound.with { $0.container.port = 50_000 + number + (number % 2 == 0 ? 0 : others) }
                        .request(.syn).bytes
                }
            }
            try datapath.spreadNotes()
            try datapath.race(requests[0], requests[1], on: .container)
            try datapath.expectConsistent(originals: 202)
            #expect(Set(try datapath.datapath.flows().map(\.reply.destination)).count == 202)
            #expect(try datapath.datapath.flushFlows() == 202)
            #expect(try datapath.leftovers() == [])
        }
    }

    @Test(arguments: Kind.all)
    func `two are held to a limit exactly`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, limits: ["limit-flows": "50"])
        for _ in 0..<5 {
            let first = try datapath.open(Outbound(kind))
            let requests = [1, 101, 201].map { start in
                (start..<start + 100 as Range<UInt16>).map { first.later($0).request(.syn).bytes }
            }
            try datapath.spreadNotes()
            try datapath.race(requests[0], requests[1], on: .container, refusing: "flow_limit")
            try datapath.expectConsistent()
            _ = try datapath.run(requests[2], at: .tc, on: .container)  // whoever was too early
            try datapath.expectConsistent(originals: 50)
            #expect(try datapath.datapath.flushFlows() == 50)
            #expect(try datapath.leftovers() == [])
            try datapath.clearCounters()
        }
    }

    @Test(arguments: Kind.all)
    func `no flow outlives its masquerade, but for connections`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, network: "\(kind.family.otherTarget)")
        let requests = (1...100 as ClosedRange<UInt16>).map { Outbound(kind).later($0).request(.syn).bytes }
        for _ in 0..<10 {
            try datapath.masquerade(kind.family)
            _ = try datapath.open(Outbound(kind))
            try datapath.spreadNotes()
            let rendezvous = Rendezvous(of: 2)
            _ = try inParallel(2) { thread in
                rendezvous.meet(0)
                if thread == 0 {
                    _ = try datapath.run(requests, at: .tc, on: .container)
                } else {
                    try datapath.removeMasquerade(of: kind.family.containers)
                }
            }
            if kind.transport == .udp { #expect(try datapath.states() == []) }
            _ = try datapath.datapath.flushFlows()
            #expect(try datapath.leftovers() == [])
        }
    }

    /// To many ports of one server from one port: of all flows the tuples have the same two first buckets.
    @Test(arguments: Kind.all)
    func `more flows than a bucket holds begin at once, are all found, and leave nothing behind`(kind: Kind) throws {
        let datapath = try TestDatapath([], flows: 1_024 * kind.family.places)
        try datapath.masquerade(kind.family)
        let first = try datapath.open(Outbound(kind))
        let outbounds = (1...200 as ClosedRange<UInt16>).map { number in first.with { $0.server.port = 1_000 + number }
        }
        for number in 0..<4 {
            let some = outbounds[number * 50..<(number + 1) * 50]
            try datapath.spreadNotes()
            try datapath.withoutAdmission(at: .tc) {
                let results = try datapath.run(some.map { $0.request(.syn).bytes }, at: .tc, on: .container)
                #expect(results.map(\.packet) == some.map { $0.forwarded($0.request(.syn)).bytes })
            }
        }
        try datapath.expectConsistent(originals: 201)
        let replies = try datapath.run(outbounds.map { $0.reply(payload: [1]).bytes }, at: .tc)
        #expect(replies.map(\.packet) == outbounds.map { $0.returned($0.reply(payload: [1])).bytes })
        #expect(try datapath.datapath.flushFlows() == 201)
        #expect(try datapath.leftovers() == [])
    }
}

extension TestDatapath {
    /// Removes the masquerade of one network, flows and all.
    fileprivate func removeMasquerade(of network: String) throws {
        let network = try IPPrefix(parsing: network)
        try datapath.removeMasquerades { $0.network == network }
    }
}
