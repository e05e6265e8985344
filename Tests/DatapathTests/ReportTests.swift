import BPF
import FastNATTesting
import Testing

@testable import FastNAT

/// ICMP errors that the datapath sends in place of the stack, about packets that it drops.
@Suite struct ReportTests {
    @Test(arguments: TransportWay.all)
    func `who sends a packet whose TTL is used up is told so, with the packet as it was sent`(way: TransportWay) throws
    {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        for length in [0, 1, 2, 3, 500, 600, 1_400] {
            let payload = (0..<length).map { UInt8(truncatingIfNeeded: $0) }
            let request = conversation.request(payload: payload).with { $0.ttl = 1 }
            let reply = conversation.reply(payload: payload).with { $0.ttl = 1 }
            try datapath.expectReported(request, as: .timeExceeded, at: way.hook, counting: "ttl_expired")
            try datapath.expectReported(reply, as: .timeExceeded, at: way.hook, on: .container, counting: "ttl_expired")
        }
    }

    @Test(arguments: Kind.all)
    func `the way back has its own MTU, which the container is told`(kind: Kind) throws {
        let network = try TestNetwork()
        let datapath = try TestDatapath(network: network)
        let conversation = Conversation(kind)
        let client = kind.family == .ipv4 ? "192.0.2.100/32" : "2001:db8:1::100/128"
        try network.namespace.ip(["route add \(client) dev uplink mtu lock 1350"])
        try datapath.open(conversation)
        let reply = conversation.reply(payload: [UInt8](repeating: 7, count: 1_400))
        try datapath.expectReported(reply, as: .tooBig(mtu: 1_350), on: .container, counting: "too_big")
        try datapath.expectReported(reply, as: .tooBig(mtu: 1_350), on: .container, counting: "too_big", gsoSize: 1_340)
        try datapath.expectReturned(conversation, conversation.reply(payload: [7]))
    }

    @Test(arguments: Kind.all)
    func `type of service, options and a wrong checksum are as they were`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        for trafficClass in [0x00, 0x01, 0xb8, 0xff] as [UInt8] {
            let request = conversation.request(payload: [1, 2, 3]).with {
                $0.ttl = 1
                $0.trafficClass = trafficClass
                $0.ipv4?.options = [UInt8](repeating: 1, count: 40)
                $0.transportChecksum = .offBy(5)
            }
            try datapath.expectReported(request, as: .timeExceeded, counting: "ttl_expired")
        }
    }

    @Test(arguments: Family.allCases)
    func `a packet that is padded is quoted without`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .udp)
        try datapath.open(conversation)
        let request = conversation.request().with { $0.ttl = 1 }
        let plain = try datapath.outcome(of: request.bytes, at: .tc)
        let padded = try datapath.outcome(of: request.bytes + [UInt8](repeating: 0xee, count: 30), at: .tc)
        #expect(padded.verdict == .redirected && padded.packet.count == plain.packet.count)
    }

    @Test(arguments: Family.allCases)
    func `reports are limited in rate, those of path MTU discovery are not`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .udp)
        try datapath.open(conversation)
        let expired = [[UInt8]](repeating: conversation.request().with { $0.ttl = 1 }.bytes, count: 3_000)
        let before = try datapath.datapath.reasonCounts()
        let start = ContinuousClock.now
        let results = try datapath.run(expired, at: .tc)
        // A bucket of 50 on each CPU that this thread has been on, and one more a millisecond.
        let limit = 50 * 64 + Int((ContinuousClock.now - start) / .milliseconds(1)) + 1
        let sent = results.count { $0.action == 7 }
        #expect(sent >= 50 && sent <= limit)
        #expect(results.allSatisfy { $0.action == 7 || $0.action == 2 })
        let after = try datapath.datapath.reasonCounts()
        let counted = zip(before, after).reduce(into: [:]) { $0[$1.0.name] = Int($1.1.packets - $1.0.packets) }
        #expect(counted["ttl_expired"] == 3_000 && counted["report_limited"] == 3_000 - sent && sent < 3_000)
        let long = conversation.request(payload: [UInt8](repeating: 7, count: 1_490))
        #expect(try datapath.run([[UInt8]](repeating: long.bytes, count: 100), at: .tc).allSatisfy { $0.action == 7 })
    }
}
