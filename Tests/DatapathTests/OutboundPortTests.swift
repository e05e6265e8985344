import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// What keeps a container's flow from beginning at once with its own port: who has that, a published address, limits, and the
/// host's address gone.
@Suite struct OutboundPortTests {
    @Test(arguments: Kind.all)
    func `a port that another flow to the server has is for others to replace`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, limits: ["limit-flows": "3"])
        let other = try datapath.open(Outbound(kind).later().fromOther(kind.family))
        let first = try datapath.open(Outbound(kind))
        try datapath.spreadNotes()
        try datapath.withoutAdmission(at: .tc) {
            try datapath.expectPassed(first.later().request(.syn), on: .container)
        }
        try datapath.expectConsistent(originals: 2)  // no place is kept for it
        let second = try datapath.open(first.later())
        #expect(second.external.port != other.external.port && second.external.address == other.external.address)
        for outbound in [other, first, second] {
            try datapath.expectForwarded(outbound, outbound.request(payload: [1]))
            try datapath.expectReturned(outbound, outbound.reply(payload: [2]))
        }
        try datapath.expectConsistent(originals: 3)
    }

    @Test(arguments: HostSocketTests.cases)
    func `a port that a socket of the host has is for others to replace`(
        family: Family, owner: HostSocketTests.Owner
    ) throws {
        let datapath = try TestDatapath([], network: TestNetwork())
        try datapath.masquerade(family, to: family.host)
        let outbound = Outbound(family, owner == .bound ? .udp : .tcp)
        let first = try datapath.open(outbound.later())
        let socket = try HostSocket(owner, outbound, in: datapath)
        try datapath.spreadNotes()
        try datapath.withoutAdmission(at: .tc) {
            try datapath.expectPassed(outbound.request(.syn), on: .container)
            try datapath.expectForwarded(first.later(), first.later().request(.syn))
            // Towards another port of the server a connected socket has no claim to it.
            let elsewhere = outbound.with { $0.server.port += 1 }
            if owner == .connected { try datapath.expectForwarded(elsewhere, elsewhere.request(.syn)) }
        }
        #expect(try datapath.open(outbound).external.port != 40_000)
        try datapath.expectConsistent(originals: owner == .connected ? 4 : 3)
        _ = consume socket
    }

    @Test(arguments: Kind.all, ["443", "442-450"])
    func `a published address goes before, any address of the same port does not`(kind: Kind, ports: String) throws {
        let family = kind.family
        let (publisher, server) = (family.stranger, family.client)
        let datapath = try TestDatapath(
            [
                family.mapping("\(ports)/\(kind.transport)", to: "80", on: publisher),
                family.mapping("444/\(kind.transport)", to: "81", on: server),
                family.mapping("443/\(kind.transport)", to: "82"),
            ].map { ports.contains("-") ? $0.replacing(":80", with: ":80-88") : $0 })
        try datapath.masquerade(family)
        let near = Outbound(kind).fromOther(family)
        let far = near.with { ($0.server.address, $0.serverMAC) = (publisher, TestNetwork.gatewayMAC) }
        let opened = try [near, far].map { try datapath.open($0.with { $0.server.port = 9_999 }) }
        let outbounds = opened.map { outbound in outbound.with { $0.server.port = 443 } }
        let published = [outbounds[1], outbounds[0].with { $0.server.port = 444 }]
        try datapath.spreadNotes()
        try datapath.withoutAdmission(at: .tc) {
            for outbound in published { try datapath.expectPassed(outbound.request(.syn), on: .container) }
            for outbound in [outbounds[0], outbounds[1].with { $0.server.port = 451 }] {
                try datapath.expectForwarded(outbound, outbound.request(.syn))
            }
        }
        for (outbound, port) in zip(published, [ports.contains("-") ? 81 : 80, 81] as [UInt16]) {
            let request = outbound.request(.syn)
            let arrived = request.with {
                $0.source = Packet.Endpoint(outbound.server.address, port: 40_000)
                $0.destination = Packet.Endpoint(family.target, port: port)
                $0.ttl -= 1
                $0.link = ("02:00:00:00:02:01", TestNetwork.targetMAC)
            }
            try datapath.expectForwarded(request, as: arrived, on: .container)
        }
        try datapath.expectConsistent(originals: 6)
    }

    @Test(arguments: Kind.all, ["flow_limit", "source_flow_limit"])
    func `flows over a limit are dropped at once, and counted`(kind: Kind, reason: String) throws {
        let name = reason == "flow_limit" ? "limit-flows" : "limit-flows-per-source"
        let (datapath, first) = try limited(kind, [name: "2"])
        try datapath.withoutAdmission(at: .tc) {
            try datapath.expectForwarded(first.later(), first.later().request(.syn))
            for _ in 0..<2 {
                try datapath.expectDropped(first.later(2).request(.syn), on: .container, counting: reason)
            }
        }
        try datapath.expectConsistent(originals: 2)
        let other = first.later(3).fromOther(kind.family)
        if name == "limit-flows" {
            try datapath.expectDropped(other.request(.syn), on: .container, counting: reason)
        } else {
            _ = try datapath.open(other)
        }
        #expect(try datapath.datapath.flushFlows() == (name == "limit-flows" ? 2 : 3))
        try datapath.spreadNotes()
        try datapath.withoutAdmission(at: .tc) {
            try datapath.expectForwarded(first.later(4), first.later(4).request(.syn))
        }
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Kind.all, ["rate_limit", "source_rate_limit"])
    func `flows beyond a rate are dropped at once, and counted`(kind: Kind, reason: String) throws {
        let name = reason == "rate_limit" ? "limit-rate" : "limit-rate-per-source"
        let (datapath, first) = try limited(kind, [name: "3/m"])
        try datapath.withoutAdmission(at: .tc) {
            for outbound in [first.later(), first.later(2)] {
                try datapath.expectForwarded(outbound, outbound.request(.syn))
            }
            try datapath.expectDropped(first.later(3).request(.syn), on: .container, counting: reason)
        }
        try datapath.expectConsistent(originals: 3)
    }

    @Test(arguments: Kind.all)
    func `a flow that is left to others counts once at its rate`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, limits: ["limit-rate": "3/m"])
        _ = try datapath.open(Outbound(kind).later().fromOther(kind.family))
        let first = try datapath.open(Outbound(kind))
        try datapath.spreadNotes()
        _ = try datapath.open(first.later())  // under another port: its own is the first's
        try datapath.expectDropped(first.later(2).request(.syn), on: .container, counting: "rate_limit")
        try datapath.expectConsistent(originals: 3)
    }

    @Test(arguments: Kind.all)
    func `a container is told at once of a full table`(kind: Kind) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family)
        let first = try datapath.open(Outbound(kind))
        try datapath.spreadNotes()
        let request = first.later().request(.syn)
        try datapath.withoutAdmission(at: .tc) {
            try datapath.changeSettings { $0.max_flows = UInt32(kind.family.places) }
            try datapath.expectReported(request, as: .prohibited, on: .container, counting: "table_full")
            try datapath.changeSettings { ($0.max_flows, $0.max_half_open) = (1_024, 0) }
            try datapath.expectReported(request, as: .prohibited, on: .container, counting: "half_open_full")
            try datapath.expectConsistent(originals: 1)
            try datapath.changeSettings { $0.max_half_open = UInt32(kind.family.places) }
            try datapath.expectForwarded(first.later(), request)
        }
        try datapath.expectConsistent(originals: 2)
    }

    @Test(arguments: EndpointTests.filters)
    func `of endpoint-independent masquerades nothing is noted, and each flow has its pattern`(
        kind: Kind, filter: MasqueradeFilter
    ) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, .endpointIndependent(filter))
        let first = try datapath.open(Outbound(kind))
        #expect(try datapath.spreadNotes() == 0)
        try datapath.withoutAdmission(at: .tc) {
            try datapath.expectPassed(first.later().request(.syn), on: .container)
        }
        let second = try datapath.open(first.later())
        let again = try datapath.open(second.with { $0.server.port += 1 })
        #expect(again.external == second.external && second.external != first.external)
        let kept = filter == .address ? 4 : 2
        #expect(try datapath.population() == (3, kept))
        try datapath.expectConsistent(originals: 3 + kept)
    }

    @Test(arguments: Kind.all)
    func `when the host has lost the address, servers not noted are refused at once, others when the note is old`(
        kind: Kind
    ) throws {
        let datapath = try TestDatapath([], network: TestNetwork())
        try datapath.masquerade(kind.family, to: kind.family.host)
        let first = try datapath.open(Outbound(kind))
        try datapath.network.readdress(kind.family)
        try datapath.spreadNotes()
        let far = first.later().with { $0.server.address = kind.family.farClient }
        try datapath.expectDropped(far.request(.syn), on: .container, counting: "no_address")
        try datapath.spreadNotes { $0.noted &-= NextHopAge.stale.rawValue }
        for _ in 0..<2 {  // what is refused is not noted either
            try datapath.expectDropped(first.later().request(.syn), on: .container, counting: "no_address")
        }
        try datapath.expectConsistent(originals: 1)
    }

    // MARK: -

    /// A datapath that masquerades under limits, with a flow that others like it go by.
    private func limited(_ kind: Kind, _ limits: [String: String]) throws -> (TestDatapath, Outbound) {
        let datapath = try TestDatapath([])
        try datapath.masquerade(kind.family, limits: limits)
        let first = try datapath.open(Outbound(kind))
        try datapath.spreadNotes()
        return (datapath, first)
    }
}
