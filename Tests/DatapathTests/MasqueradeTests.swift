import Addresses
import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Connections that containers begin, with a port of their own for each (symmetric).
@Suite struct MasqueradeTests {
    @Test(arguments: TransportWay.all)
    func `a server sees the host's address with the container's port, and its replies come back`(way: TransportWay)
        throws
    {
        let datapath = try TestDatapath([])
        try datapath.masquerade(way.family)
        let outbound = try datapath.open(Outbound(way))
        #expect(outbound.external.port == 40_000)
        #expect([way.family.host, way.family.otherHost].contains(outbound.external.address))
        try datapath.expectForwarded(outbound, outbound.request(payload: [1, 2, 3]))
        try datapath.expectReturned(outbound, outbound.reply(payload: [4, 5]), at: way.hook)
        #expect(try datapath.states() == [way.transport == .tcp ? .established : .replied])
        let listed = try #require(try datapath.datapath.masquerades { "#\($0)" }.first)
        #expect(listed.flows == 1 && listed.packets == (way.transport == .tcp ? 5 : 4))
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Kind.outbound)
    func `two containers with one source port to one server get two`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family)
        let first = try datapath.open(Outbound(kind))
        let second = try datapath.open(Outbound(kind).fromOther(kind.family))
        #expect(first.external.port == 40_000 && second.external.port != 40_000)
        #expect(((kind.transport == .icmp ? 1 : 1024)...65_535).contains(second.external.port))
        for outbound in [first, second] {
            try datapath.expectForwarded(outbound, outbound.request(payload: [1]))
            try datapath.expectReturned(outbound, outbound.reply(payload: [2]))
        }
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: Kind.outbound)
    func `what a container that has gone began ends, but for connections, and nothing of others'`(kind: Kind) throws {
        let datapath = try TestDatapath(kind.transport == .icmp ? [] : kind.family.standardMappings)
        try datapath.masquerade(kind.family)
        let first = try datapath.open(Outbound(kind))
        let second = try datapath.open(Outbound(kind).fromOther(kind.family))
        if kind.transport != .icmp { try datapath.open(Conversation(kind)) }
        let before = try datapath.datapath.flowCount().flows
        let address = try IPAddress(parsing: "\(first.container.address)")
        let ended = try datapath.datapath.endUDPFlows(from: address)
        #expect(ended == (kind.transport == .tcp ? 0 : 1))
        try datapath.expectConsistent(originals: before - ended)
        try datapath.expectReturned(second, second.reply(payload: [2]))
        if kind.transport == .tcp { try datapath.expectReturned(first, first.reply(payload: [3])) }
    }

    /// RFC 6888, REQ-15: that of 20 none is 10,000 from another happens once in 10^14 times.
    @Test(arguments: Kind.outbound)
    func `a port in the place of a taken one is any of the range`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family)
        let ports = try (0..<20).map { number in
            let outbound = Outbound(kind).with { $0.container.port += UInt16(number) }
            _ = try datapath.begin(outbound)
            return try datapath.begin(outbound.fromOther(kind.family)).external.port
        }
        #expect(Int(ports.max() ?? 0) - Int(ports.min() ?? 0) > 10_000)
    }

    @Test(arguments: Kind.all)
    func `one port serves many destinations`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, ports: 50_000...50_000)
        let containers = [Outbound(kind), Outbound(kind).fromOther(kind.family)]
        for (number, outbound) in containers.enumerated() {
            let begun = try datapath.open(outbound.with { $0.server.port += UInt16(number) })
            #expect(begun.external.port == 50_000)
        }
        let far = try datapath.open(
            Outbound(kind).with {
                $0.server.address = kind.family.farClient; $0.serverMAC = TestNetwork.gatewayMAC
            })
        #expect(far.external.port == 50_000)
    }

    @Test(arguments: Kind.outbound)
    func `all ports of a range serve one server, one more is refused, and one that is free again is found`(kind: Kind)
        throws
    {
        let datapath = try TestDatapath([])
        for network in [nil, "\(kind.family.otherTarget)"] {
            try datapath.masquerade(kind.family, network: network, ports: 50_000...50_099)
        }
        let outbounds = (0..<99).map { number in Outbound(kind).with { $0.container.port = UInt16(2_000 + number) } }
        let begun = try (outbounds + [Outbound(kind).fromOther(kind.family)]).map { try datapath.begin($0) }
        #expect(Set(begun.map(\.external.port)) == Set(50_000...50_099))
        let late = Outbound(kind)
        try datapath.expectReported(late.request(.syn), as: .prohibited, on: .container, counting: "no_free_port")
        for outbound in begun { try datapath.expectForwarded(outbound, outbound.request(.syn)) }
        try datapath.expectConsistent(originals: 100)
        let other = try #require(try datapath.maps.masqueradeEntries().max { $0.network.length < $1.network.length })
        #expect(try datapath.datapath.flush([other.value.id]) == 1)
        #expect(try datapath.begin(late).external == begun[99].external)
    }

    @Test(arguments: Family.allCases, [(53, 1...511), (700, 512...1_023)] as [(UInt16, ClosedRange<UInt16>)])
    func `a well-known source port stays, or becomes another one`(
        family: Family, ports: (own: UInt16, range: ClosedRange<UInt16>)
    ) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family)
        let outbound = Outbound(family, .udp).with { $0.container.port = ports.own }
        #expect(try datapath.open(outbound).external.port == ports.own)
        let second = try datapath.open(outbound.fromOther(family)).external.port
        #expect(second != ports.own && ports.range.contains(second))
    }

    @Test(arguments: Kind.outbound)
    func `what goes elsewhere is left alone`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        let family = kind.family
        try datapath.masquerade(
            family, exempt: ["\(family.stranger)", family == .ipv4 ? "198.51.100.0/24" : "::1/128"])
        let outbound = Outbound(kind)
        for address in [family.stranger, family.host, family.otherTarget] {
            try datapath.expectPassed(
                outbound.with { $0.server.address = address }.request(.syn), on: .container)
        }
        try datapath.expectPassed(
            outbound.with { $0.container.address = family.stranger }.request(.syn), on: .container)
        #expect(try datapath.states() == [])
        _ = try datapath.open(outbound)
    }

    @Test(arguments: Kind.outbound)
    func `what leaves by another interface is left alone`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, on: datapath.network.container)
        try datapath.expectPassed(Outbound(kind).request(.syn), on: .container)
    }

    @Test(arguments: Kind.outbound)
    func `the longest network wins`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, ports: 50_000...50_999)
        try datapath.masquerade(kind.family, network: "\(kind.family.otherTarget)", ports: 60_000...60_999)
        for (outbound, ports) in [
            (Outbound(kind), 50_000...50_999), (Outbound(kind).fromOther(kind.family), 60_000...60_999),
        ] as [(Outbound, ClosedRange<UInt16>)] {
            #expect(ports.contains(try datapath.begin(outbound).external.port))
        }
    }

    @Test(arguments: [Transport.tcp, .udp])
    func `a rule for all of IPv6 is none for IPv4`(transport: Transport) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(.ipv6, network: "::/0")
        try datapath.expectPassed(Outbound(.ipv4, transport).request(.syn), on: .container)
        _ = try datapath.open(Outbound(.ipv6, transport))
    }

    @Test(arguments: Kind.outbound)
    func `a fixed address is the one that servers see`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        for address in [kind.family.host, kind.family.otherHost] {
            try datapath.masquerade(kind.family, to: address)
            let begun = try datapath.open(Outbound(kind))
            #expect(begun.external == Packet.Endpoint(address, port: 40_000))
            try datapath.removeMasquerades()
            _ = try datapath.datapath.flushFlows()
        }
    }

    @Test(arguments: Kind.outbound)
    func `a rule that is removed takes no new flows, others than TCP end, its connections drain`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family)
        let outbound = try datapath.open(Outbound(kind))
        try datapath.removeMasquerades()
        try datapath.expectPassed(Outbound(kind).fromOther(kind.family).request(.syn), on: .container)
        if kind.transport != .tcp {
            #expect(try datapath.states() == [])
        } else {
            try datapath.expectForwarded(outbound, outbound.request(payload: [1]))
            try datapath.expectReturned(outbound, outbound.reply(payload: [2]))
        }
        #expect(try datapath.datapath.removeMasquerades { _ in true } == 0)
    }

    @Test(arguments: Kind.outbound)
    func `two CPUs never give one port to two flows`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.changeSettings { $0.max_half_open = 1_024 }
        try datapath.masquerade(kind.family, ports: 50_000...50_299)
        let requests = (0..<2).map { thread in
            (0..<100).map { number in
                Outbound(kind).with { $0.container.port = UInt16(50_000 + number) }.with {
                    if thread == 1 { $0 = $0.fromOther(kind.family) }
                }.request(.syn).bytes
            }
        }
        for _ in 0..<5 {
            let rendezvous = Rendezvous(of: 2)
            let results = try inParallel(2) { thread in
                try datapath.run(requests[thread], at: .tc, on: .container, before: rendezvous.meet)
            }
            let external = results.joined().filter { $0.action == 7 }.compactMap { PacketView($0.packet).source }
            #expect(external.count == 200 && Set(external).count == 200)
            try datapath.expectConsistent(originals: 200)
            #expect(try datapath.datapath.flushFlows() == 200)
        }
    }

    @Test(arguments: Kind.all)
    func `nothing leaves with a fixed address that the host has lost, nor with the container's own`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, to: kind.family.stranger)
        try datapath.expectDropped(Outbound(kind).request(.syn), on: .container, counting: "no_address")
        #expect(try datapath.leftovers() == [])
    }

    @Test(arguments: Family.allCases)
    func `flows follow the uplink's address`(family: Family) throws {
        let datapath = try TestDatapath([], network: TestNetwork())
        try datapath.masquerade(family)
        let outbounds = try Transport.allCases.map { try datapath.open(Outbound(family, $0)) }
        try datapath.network.readdress(family)
        try datapath.setNextHops(.stale)
        try datapath.expectPassed(outbounds[0].request(), on: .container)
        let renewed = try datapath.open(outbounds[1])
        #expect(renewed.external == Packet.Endpoint(family == .ipv4 ? "192.0.2.77" : "2001:db8:1::77", port: 40_000))
        #expect(try datapath.states() == [.replied])
    }
}

extension Outbound {
    /// The same from another container.
    func fromOther(_ family: Family) -> Outbound {
        with {
            $0.container.address = family.otherTarget
            $0.containerMAC = TestNetwork.otherTargetMAC
        }
    }
}

extension TestNetwork {
    /// Gives the uplink another address in place of the two it has.
    func readdress(_ family: Family) throws(TestingError) {
        let (new, length): (Packet.Address, String) =
            family == .ipv4 ? ("192.0.2.77", "24") : ("2001:db8:1::77", "64 nodad")
        let version = family == .ipv4 ? "-4" : "-6"
        try namespace.command(["ip", version, "address", "flush", "dev", "uplink", "scope", "global"])
        try namespace.ip([
            "address add \(new)/\(length) dev uplink",
            "route replace \(family == .ipv4 ? "0.0.0.0/0" : "::/0") dev uplink",
            Self.neighbour("\(family.client)", Self.clientMAC, "uplink"),
        ])
        try awaitLocalRoute(new)
    }
}
