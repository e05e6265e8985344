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

    /// It may be taken back: two CPUs that make one at once find each other's.
    @Test("an external port that is still being made is nobody's yet", arguments: Kind.all)
    func unfinished(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(.endpoint))
        let first = try datapath.open(Outbound(kind))
        let next = first.with { $0.server.port += 1 }
        let pattern = try #require(try datapath.liveRecords().first { $0.record.flags & FLOW_PATTERN.rawValue != 0 })
        var unfinished = pattern.record
        unfinished.state.phase = UInt8(FLOW_DEAD.rawValue)
        try datapath.maps.setRecord(pattern.slot, unfinished)
        try datapath.expectDropped(next.request(.syn), on: .container, counting: "flow_race")
        try datapath.maps.setRecord(pattern.slot, pattern.record)
        #expect(try datapath.open(next).external == first.external)
        try datapath.expectConsistent(originals: 3)
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
                try datapath.expectDropped(sender.reply(.syn), counting: "filtered")
                continue
            }
            try datapath.expectReturned(sender, sender.reply(.syn))
            try datapath.expectForwarded(sender, sender.request([.syn, .ack]))
            try datapath.expectReturned(sender, sender.reply(payload: [1]))
        }
        try datapath.expectPassed(stranger.with { $0.external.port += 1 }.reply(.syn))
    }

    @Test(
        "containers reach each other's endpoints as their filters have it, and see the external ones",
        arguments: filters)
    func hairpin(kind: Kind, filter: MasqueradeFilter) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(filter))
        let first = try datapath.open(Outbound(kind))
        let second = try datapath.open(Outbound(kind).fromOther(kind.family))
        if filter != .endpoint {
            let request = first.toEndpoint(of: second).request(.syn)
            try datapath.expectDropped(request, on: .container, counting: "filtered")
        }
        guard filter != .port else {
            let request = second.toEndpoint(of: first).request(.syn)
            return try datapath.expectDropped(request, on: .container, counting: "filtered")
        }
        // By address: the first has sent to the host's address, and so lets the second in that has it.
        try datapath.expectHairpin(second, first, .syn)
        try datapath.expectHairpin(first, second, [.syn, .ack])
        try datapath.expectHairpin(second, first, .ack)
        #expect(try datapath.population().flows == 3)
        #expect(try datapath.open(second.with { $0.server.port += 1 }).external == second.external)
    }

    @Test("a container reaches an endpoint of its own, and keeps the port that it has had there", arguments: Kind.all)
    func ownEndpoint(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(.endpoint))
        let server = try datapath.open(Outbound(kind))
        var client = server.with { $0.container.port = 41_000 }
        client.external.port = 41_000
        try datapath.expectHairpin(client, server, .syn)
        try datapath.expectHairpin(server, client, [.syn, .ack])
        #expect(try datapath.open(client).external == client.external)
        // What sends to itself would be its own answer.
        let itself = server.toEndpoint(of: server).request(.syn)
        #expect(try datapath.outcome(of: itself.bytes, at: .tc, on: .container).counted == ["no_free_port": 1])
    }

    @Test("a container with a port for each destination reaches an endpoint of another", arguments: Kind.all)
    func symmetricClient(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(.endpoint))
        try datapath.masquerade(kind.family, network: "\(kind.family.otherTarget)", ports: 50_000...50_000)
        let server = try datapath.open(Outbound(kind))
        var client = Outbound(kind).fromOther(kind.family)
        client.external = Packet.Endpoint(server.external.address, port: 50_000)
        try datapath.expectHairpin(client, server, .syn)
        try datapath.expectHairpin(server, client, [.syn, .ack])
        try datapath.removeMasquerades()
        let late = client.with { $0.container.port += 1 }.toEndpoint(of: server)
        try datapath.expectPassed(late.request(.syn), on: .container)
    }

    @Test("two containers that talk by their endpoints keep both", arguments: Kind.all)
    func hairpinLife(kind: Kind) throws {
        let datapath = try TestDatapath([], timeouts: Self.timeouts)
        try datapath.masquerade(kind.family, .endpointIndependent(.endpoint))
        let first = try datapath.open(Outbound(kind))
        let second = try datapath.open(Outbound(kind).fromOther(kind.family))
        try datapath.expectHairpin(second, first, .syn)
        try datapath.expectHairpin(first, second, [.syn, .ack])
        try datapath.expectHairpin(second, first, .ack)
        for flags in [Packet.TCPFlags.rst, .rst] {  // the connections to the server end sooner than that between them
            try datapath.expectForwarded(first, first.request(flags))
            try datapath.expectForwarded(second, second.request(flags))
        }
        for _ in 0..<4 {
            try datapath.age(by: 160)
            try datapath.expectHairpin(second, first, .ack)
            try datapath.expectHairpin(first, second, .ack)
            try datapath.sweep()
        }
        #expect(try datapath.population() == (1, 2))
    }

    @Test("the host answers at its address, but for endpoints", arguments: Family.allCases)
    func hostGoesFirst(family: Family) throws {
        let datapath = try TestDatapath([], network: TestNetwork())
        try datapath.masquerade(family, to: family.host, .endpointIndependent(.endpoint))
        let server = try datapath.open(Outbound(family, .udp))
        let client = Outbound(family, .udp).fromOther(family).toEndpoint(of: server)
        try datapath.expectPassed(client.with { $0.server.port += 1 }.request(), on: .container)
        let echo = Outbound(family, .icmp).fromOther(family).with { $0.server.address = family.host }
        try datapath.expectPassed(echo.request(), on: .container)
        let socket = try HostSocket(.bound, server, in: datapath)
        try datapath.expectPassed(client.request(), on: .container)
        _ = consume socket
        // An address that has gone elsewhere.
        try datapath.network.readdress(family)
        try datapath.expectPassed(server.with { $0.server.port = 9_999 }.reply())
    }

    @Test("whoever pretends to be this host is not let in to an endpoint", arguments: Kind.all)
    func spoofing(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(.endpoint))
        let outbound = try datapath.open(Outbound(kind))
        for address in [kind.family.host, kind.family.gateway] {
            let spoofed = outbound.with { $0.server = Packet.Endpoint(address, port: 9_999) }
            try datapath.expectDropped(spoofed.reply(.syn), counting: "martian_source")
        }
    }

    @Test("an endpoint lives as long as one of its flows, and no longer", arguments: Kind.all)
    func life(kind: Kind) throws {
        let datapath = try TestDatapath([], timeouts: Self.timeouts)
        try datapath.masquerade(kind.family, .endpointIndependent(.address))
        let outbound = try datapath.open(Outbound(kind))
        try datapath.age(by: 160)
        try datapath.expectForwarded(outbound, outbound.request(payload: [1]))
        for _ in 0..<2 { try datapath.sweep() }  // the flow keeps one pattern, which keeps the other
        try datapath.age(by: 160)
        try datapath.sweep()
        #expect(try datapath.population() == (1, 2))
        try datapath.age(by: kind.transport == .tcp ? 1_100 : 300)
        try datapath.awaitFlows(0)
        #expect(try datapath.leftovers() == [])
    }

    @Test("an established connection that is silent keeps its endpoint", arguments: Family.allCases)
    func silence(family: Family) throws {
        let datapath = try TestDatapath([], timeouts: Self.timeouts)
        try datapath.masquerade(family, .endpointIndependent(.endpoint))
        _ = try datapath.open(Outbound(family, .tcp))
        for _ in 0..<4 {
            try datapath.age(by: 110)
            try datapath.sweep()
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

extension TestDatapath {
    /// Expects that what a container sends to another one's external endpoint comes there from its own.
    fileprivate func expectHairpin(
        _ sender: Outbound, _ receiver: Outbound, _ flags: Packet.TCPFlags,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let packet = sender.toEndpoint(of: receiver).request(flags)
        let expected = packet.with {
            $0.source = sender.external
            $0.destination = receiver.container
            $0.ttl -= 1
            $0.link = ("02:00:00:00:02:01", receiver.containerMAC)
        }
        try expectForwarded(packet, as: expected, on: .container, sourceLocation: sourceLocation)
    }
}

extension Outbound {
    /// The same to the external endpoint of another container.
    fileprivate func toEndpoint(of other: Outbound) -> Outbound { with { $0.server = other.external } }

    /// The same to a server behind the gateway.
    func toFar(_ family: Family) -> Outbound {
        with {
            $0.server.address = family.farClient
            $0.serverMAC = TestNetwork.gatewayMAC
        }
    }
}
