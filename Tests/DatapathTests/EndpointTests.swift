import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Endpoint-independent masquerades: one external port for one source, whatever its destinations (RFC 4787).
@Suite struct EndpointTests {
    static let timeouts = {
        var timeouts = Timeouts()
        (timeouts.tcpHalfOpen, timeouts.tcpOpen, timeouts.tcpClosing, timeouts.udp) = (300, 1_000, 300, 300)
        return timeouts
    }()

    static let filters = Kind.all.flatMap { kind in MasqueradeFilter.allCases.map { (kind, $0) } }

    @Test("one external port for all destinations", arguments: filters)
    func mapping(kind: Kind, filter: MasqueradeFilter) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(filter))
        let first = try datapath.open(Outbound(kind))
        let second = try datapath.open(Outbound(kind).fromOther(kind.family))
        #expect(first.external != second.external)
        for container in [Outbound(kind), Outbound(kind).fromOther(kind.family)] {
            let expected = container.container == first.container ? first.external : second.external
            #expect(try datapath.open(container.with { $0.server.port += 1 }).external == expected)
            #expect(try datapath.open(container.toFar(kind.family)).external == expected)
        }
        let kept = filter == .address ? 6 : 2  // one for each container, and one for each address that it has sent to
        #expect(try datapath.population() == (6, kept))
        try datapath.expectConsistent(originals: 6 + kept)
    }

    @Test("filters: who may send to the external port", arguments: filters)
    func filtering(kind: Kind, filter: MasqueradeFilter) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(filter))
        let outbound = try datapath.open(Outbound(kind))
        let otherPort = outbound.with { $0.server.port = 9_999 }
        let stranger = outbound.toFar(kind.family)
        for (sender, isAllowed) in [(otherPort, filter != .port), (stranger, filter == .endpoint)] {
            guard isAllowed else {
                try datapath.expectPassed(sender.reply(.syn))
                continue
            }
            try datapath.expectReturned(sender, sender.reply(.syn))
            try datapath.expectForwarded(sender, sender.request([.syn, .ack]))
            try datapath.expectReturned(sender, sender.reply(payload: [1]))
        }
        try datapath.expectPassed(stranger.with { $0.external.port += 1 }.reply(.syn))
    }

    @Test("an endpoint lives as long as one of its flows, and no longer", arguments: Kind.all)
    func life(kind: Kind) async throws {
        let datapath = try TestDatapath([], timeouts: Self.timeouts)
        try datapath.masquerade(kind.family, .endpointIndependent(.address))
        let outbound = try datapath.open(Outbound(kind))
        try datapath.age(by: 160)
        try datapath.expectForwarded(outbound, outbound.request(payload: [1]))
        for _ in 0..<2 { try await datapath.sweep() }  // the flow keeps one pattern, which keeps the other
        try datapath.age(by: 160)
        try await datapath.sweep()
        #expect(try datapath.population() == (1, 2))
        try datapath.age(by: kind.transport == .tcp ? 1_100 : 300)
        try await datapath.awaitFlows(0)
        #expect(try datapath.leftovers() == [])
    }

    @Test("an established connection that is silent keeps its endpoint", arguments: Family.allCases)
    func silence(family: Family) async throws {
        let datapath = try TestDatapath([], timeouts: Self.timeouts)
        try datapath.masquerade(family, .endpointIndependent(.endpoint))
        _ = try datapath.open(Outbound(family, .tcp))
        for _ in 0..<4 {
            try datapath.age(by: 110)
            try await datapath.sweep()
            #expect(try datapath.population() == (1, 1))
        }
    }

    @Test("a rule that is removed closes its endpoints at once", arguments: filters)
    func removal(kind: Kind, filter: MasqueradeFilter) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(filter))
        let outbound = try datapath.open(Outbound(kind))
        try datapath.removeMasquerades()
        #expect(try datapath.population() == (kind.transport == .tcp ? 1 : 0, 0))
        try datapath.expectPassed(outbound.toFar(kind.family).reply(.syn))
        try datapath.expectPassed(outbound.with { $0.server.port += 1 }.request(.syn), on: .container)
    }

    @Test("an endpoint follows the uplink's address", arguments: Family.allCases)
    func address(family: Family) throws {
        let datapath = try TestDatapath([], network: TestNetwork())
        try datapath.masquerade(family, .endpointIndependent(.address))
        let outbound = try datapath.open(Outbound(family, .udp))
        try datapath.network.readdress(family)
        try datapath.setNextHops(.stale)
        let renewed = try datapath.open(outbound)
        #expect(renewed.external.address == (family == .ipv4 ? "192.0.2.77" : "2001:db8:1::77"))
        #expect(try datapath.open(outbound.with { $0.server.port += 1 }).external == renewed.external)
    }

    @Test("with all ports given out, another endpoint gets none, and those that are there live on", arguments: Kind.all)
    func exhaustion(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, ports: 50_000...50_009, .endpointIndependent(.endpoint))
        let begun = try (0..<10).map { number in
            try datapath.open(Outbound(kind).with { $0.container.port = UInt16(2_000 + number) })
        }
        #expect(Set(begun.map(\.external.port)) == Set(50_000...50_009))
        let late = Outbound(kind).fromOther(kind.family).toFar(kind.family)
        try datapath.expectReported(late.request(.syn), as: .prohibited, on: .container, counting: "no_free_port")
        for outbound in begun { _ = try datapath.open(outbound.with { $0.server.port += 1 }) }
    }

    @Test("two CPUs give one source one port", arguments: Kind.all)
    func race(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.changeSettings { $0.max_half_open = 1_024 }
        try datapath.masquerade(kind.family, .endpointIndependent(.address))
        let requests = (0..<2).map { thread in
            (0..<100).map { number in
                Outbound(kind).with {
                    $0.container.port = UInt16(2_000 + number)
                    $0.server.port += UInt16(thread)
                }.request(.syn).bytes
            }
        }
        for _ in 0..<5 {
            let rendezvous = Rendezvous(of: 2)
            _ = try inParallel(2) { thread in
                try datapath.run(requests[thread], at: .tc, on: .container, before: rendezvous.meet)
            }
            // A packet that lost a race is sent again, as its sender would.
            let results = try requests.map { try datapath.run($0, at: .tc, on: .container) }
            for number in 0..<100 {
                let external = results.compactMap { PacketView($0[number].packet).source }
                #expect(results.allSatisfy { $0[number].action == 7 } && Set(external).count == 1)
            }
            #expect(try datapath.population() == (200, 200))
            try datapath.expectConsistent(originals: 400)
            #expect(try datapath.datapath.flushFlows() == 400)
        }
    }
}

extension Outbound {
    /// The same to a server behind the gateway.
    func toFar(_ family: Family) -> Outbound {
        with {
            $0.server.address = family.farClient
            $0.serverMAC = TestNetwork.gatewayMAC
        }
    }
}
