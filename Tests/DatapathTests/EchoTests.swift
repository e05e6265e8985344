import FastNATTesting
import Testing

@testable import FastNAT

/// ICMP echo of containers: the identifier is translated as a port is (RFC 5508, section 3). What echo has in common with UDP is
/// tested in `MasqueradeTests`.
@Suite struct EchoTests {
    @Test(arguments: Way.all)
    func `a container's echo has its identifier and the host's address, and the reply comes back`(way: Way) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(way.family)
        let outbound = Outbound(way.family, .icmp)
        if way.hook == .xdp {
            try datapath.expectPassed(outbound.request(), at: .xdp, on: .container)
            _ = try datapath.open(outbound)
            return try datapath.expectPassed(outbound.reply(), at: .xdp)
        }
        let begun = try datapath.open(outbound)
        #expect(begun.external.port == 40_000)
        for length in [0, 1, 56, 1_400] {
            let payload = [UInt8](repeating: 3, count: length)
            let request = begun.request(payload: payload).with { $0.icmp?.sequence = UInt16(length) }
            try datapath.expectForwarded(begun, request)
            try datapath.expectReturned(begun, begun.reply(payload: payload).with { $0.icmp?.sequence = 0xffff })
        }
        #expect(try datapath.states() == [.replied])
        let flow = try #require(try datapath.datapath.flows().first)
        #expect(flow.protocol == (way.family == .ipv4 ? .icmp : .icmpv6))
        #expect(flow.original.source.port == 40_000 && flow.original.destination.port == 40_000)
        #expect(flow.reply.source.port == 40_000 && flow.expires > 55 && flow.expires <= 60)
        try datapath.expectConsistent(originals: 1)
    }

    @Test(arguments: Family.allCases)
    func `what is odd about an echo stays`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family, ports: 50_000...50_000)
        let outbound = try datapath.open(Outbound(family, .icmp))
        let changes: [(inout Packet) -> Void] = [
            { $0.icmp?.checksum = .offBy(3) }, { $0.icmp?.code = 7 }, { $0.trafficClass = 0xb9 },
            { $0.ipv4?.options = [1, 1, 1, 1] },
        ]
        for change in changes {
            try datapath.expectForwarded(outbound, outbound.request(payload: [1, 2, 3]).with(change))
            try datapath.expectReturned(outbound, outbound.reply(payload: [1, 2, 3]).with(change))
        }
    }

    @Test(arguments: Way.all)
    func `echoes of nobody's and other messages are left to the stack`(way: Way) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(way.family, .endpointIndependent(.endpoint))
        let outbound = try datapath.open(Outbound(way.family, .icmp))
        let reply = outbound.reply(payload: [1])
        let request = outbound.request(payload: [1])
        // A request from outside is for this host, a reply of a container's to somebody who knows its address.
        let swapped: UInt8 = way.family == .ipv4 ? 8 : 128
        try datapath.expectPassed(reply.with { $0.icmp?.type = swapped }, at: way.hook)
        try datapath.expectPassed(
            request.with { $0.icmp?.type = way.family == .ipv4 ? 0 : 129 }, at: way.hook, on: .container)
        try datapath.expectPassed(outbound.with { $0.external.port = 40_001 }.reply(), at: way.hook)
        try datapath.expectPassed(outbound.with { $0.server.address = way.family.farClient }.reply(), at: way.hook)
        let others: [UInt8] = way.family == .ipv4 ? [4, 5, 9, 10, 13, 14, 17] : [130, 133, 134, 135, 136, 137]
        for type in others {
            try datapath.expectPassed(reply.with { $0.icmp?.type = type }, at: way.hook)
            try datapath.expectPassed(request.with { $0.icmp?.type = type }, at: way.hook, on: .container)
        }
        #expect(try datapath.population() == (1, 1))
    }

    /// 8 is what stands for the port of who answers.
    @Test(arguments: Family.allCases)
    func `an identifier of eight confuses nobody`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family)
        let outbound = try datapath.open(Outbound(family, .icmp).with { $0.container.port = 8 })
        #expect(outbound.external.port == 8)
        try datapath.expectForwarded(outbound, outbound.request(payload: [1]))
        try datapath.expectReturned(outbound, outbound.reply(payload: [1]))
        let swapped: UInt8 = family == .ipv4 ? 8 : 128
        try datapath.expectPassed(outbound.reply().with { $0.icmp?.type = swapped })
        try datapath.expectPassed(outbound.request().with { $0.icmp?.type = family == .ipv4 ? 0 : 129 }, on: .container)
        let flow = try #require(try datapath.datapath.flows().first)
        #expect(flow.original.source.port == 8 && flow.reply.destination.port == 8)
    }

    @Test(arguments: Family.allCases)
    func `an identifier of zero becomes another`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family, .endpointIndependent(.port))
        let outbound = try datapath.open(Outbound(family, .icmp).with { $0.container.port = 0 })
        #expect(outbound.external.port != 0)
        #expect(try datapath.open(outbound.toFar(family)).external == outbound.external)
    }

    @Test(arguments: Family.allCases)
    func `--type eim gives one identifier for all destinations`(family: Family) throws {
        for filter in MasqueradeFilter.allCases {
            let datapath = try TestDatapath([])
            try datapath.masquerade(family, .endpointIndependent(filter))
            let outbound = try datapath.open(Outbound(family, .icmp))
            let other = try datapath.open(Outbound(family, .icmp).fromOther(family))
            #expect(other.external != outbound.external)
            let far = try datapath.open(outbound.toFar(family))
            #expect(far.external == outbound.external)
            for stranger in [outbound, far] { try datapath.expectReturned(stranger, stranger.reply(payload: [1])) }
            #expect(try datapath.population() == (3, filter == .address ? 5 : 2))
        }
    }

    @Test(arguments: Family.allCases)
    func `an echo is answered for a minute, or for as long as was said`(family: Family) throws {
        var timeouts = Timeouts()
        for seconds in [60, 600] as [UInt64] {
            timeouts.icmp = UInt32(seconds)
            let datapath = try TestDatapath([], timeouts: timeouts)
            try datapath.masquerade(family)
            let outbound = try datapath.begin(Outbound(family, .icmp))
            if seconds == 600 {  // with minutes to spare on a busy machine
                try datapath.age(by: 300)
                try datapath.sweep()
                try datapath.expectReturned(outbound, outbound.reply())
            }
            try datapath.age(by: seconds + 5)
            try datapath.sweep()
            #expect(try datapath.states() == [])
        }
    }

    @Test(arguments: Family.allCases)
    func `a traceroute by echo sees this host, and errors name the container's identifier`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family, ports: 50_000...50_000)
        let outbound = Outbound(family, .icmp)
        let expiring = outbound.request(payload: [9, 9]).with { $0.ttl = 1 }
        try datapath.expectReported(expiring, as: .timeExceeded, on: .container, counting: "ttl_expired")
        #expect(try datapath.states() == [], "a first packet that gets nowhere leaves nothing")
        let begun = try datapath.open(outbound)
        for limit in [family.headerLength + 8, 576] {
            let request = begun.request(payload: [UInt8](repeating: 7, count: 32))
            try datapath.expectForwarded(
                begun.error(.timeExceeded, from: family.stranger, about: begun.forwarded(request), limit: limit),
                as: begun.errorInside(
                    .timeExceeded, from: family.stranger, about: request.with { $0.ttl -= 1 }, limit: limit))
        }
        // And about the reply, from within.
        let reply = begun.reply(payload: [1, 2])
        let error = Packet.icmpError(
            from: family.target, to: family.client, .prohibited, about: begun.returned(reply)
        ).with { $0.link = (TestNetwork.targetMAC, "02:00:00:00:02:01") }
        let expected = Packet.icmpError(
            from: begun.external.address, to: family.client, .prohibited, about: reply.with { $0.ttl -= 1 }
        ).with {
            $0.link = ("02:00:00:00:01:01", TestNetwork.clientMAC)
            $0.ttl -= 1
        }
        try datapath.expectForwarded(error, as: expected, on: .container)
    }

    @Test(arguments: Family.allCases)
    func `an error about nobody's echo is left to the stack`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family)
        let outbound = try datapath.open(Outbound(family, .icmp))
        let other = outbound.with { $0.external.port = 40_001 }
        for packet in [
            other.forwarded(outbound.request()), outbound.forwarded(outbound.request()).with { $0.icmp?.type = 13 },
            outbound.forwarded(outbound.request()).with { $0.icmp?.type = family == .ipv4 ? 0 : 129 },
        ] {
            try datapath.expectPassed(outbound.error(.timeExceeded, from: family.stranger, about: packet, limit: 576))
        }
    }

    @Test(arguments: Family.allCases)
    func `a long echo is reported as too big`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family)
        let outbound = try datapath.open(Outbound(family, .icmp))
        let long = outbound.request(payload: [UInt8](repeating: 1, count: 1_501 - family.headerLength - 8))
        try datapath.expectReported(long, as: .tooBig(mtu: 1_500), on: .container, counting: "too_big")
    }

    @Test(arguments: Family.allCases, [Side.uplink, .container])
    func `an echo in fragments is translated, whatever their order`(family: Family, side: Side) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family, ports: 50_000...50_000)
        let outbound = try datapath.open(Outbound(family, .icmp))
        for (identification, order) in [[0, 1, 2], [0, 2, 1, 0]].enumerated() {
            let packet = outbound.fragmented(from: side, UInt32(identification))
            for number in order { try datapath.expectForwarded(packet, number) }
        }
        let late = outbound.fragmented(from: side, 77)
        for number in [2, 1] { try datapath.expectKept(late, number) }
        try datapath.expectTaken(late.fragments[0], on: side)
        for number in [0, 1, 2] { try datapath.expectForwarded(late, number) }
    }

    @Test(arguments: Family.allCases)
    func `a first fragment begins an echo`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family, to: family.host)
        let packet = Outbound(family, .icmp).fragmented(from: .container, 5)
        for number in 0..<3 { try datapath.expectForwarded(packet, number) }
        #expect(try datapath.states() == [.unreplied])
    }

    @Test(arguments: Family.allCases, [Side.uplink, .container])
    func `the stack's own ICMP in fragments goes up the stack`(family: Family, side: Side) throws {
        let datapath = try TestDatapath([])
        let echo = Outbound(family, .icmp)
        let payload = [UInt8](repeating: 1, count: 100)
        let packet = side == .uplink ? echo.reply(payload: payload) : echo.request(payload: payload)
        for (identification, type) in [packet.icmp?.type ?? 0, 13, family == .ipv4 ? 3 : 1].enumerated() {
            let fragments = packet.with { $0.icmp?.type = type }
                .fragments(of: 48, identification: UInt32(identification))
            for number in [0, 2, 1] { try datapath.expectPassed(fragments[number], on: side) }
        }
    }

    @Test(arguments: Family.allCases)
    func `the sum that a device has made of an echo stays right`(family: Family) throws {
        let datapath = try TestDatapath([])
        try datapath.masquerade(family, ports: 50_000...50_000)
        let outbound = try datapath.open(Outbound(family, .icmp))
        let packets = [(Side.uplink, outbound.reply(payload: [1])), (.container, outbound.request(payload: [1]))]
        for (side, packet) in packets {
            guard let fits = try datapath.sumFits(packet.bytes, on: side) else { return }
            #expect(fits)
        }
        for side in [Side.uplink, .container] {
            for fragment in outbound.fragmented(from: side, 9).fragments {
                #expect(try datapath.sumFits(fragment.bytes, on: side) == true)
            }
        }
    }
}

extension Outbound {
    /// A request, or a reply from the uplink's side, in three fragments.
    fileprivate func fragmented(from side: Side, _ identification: UInt32) -> FragmentedPacket {
        let payload = (0..<100).map { UInt8($0) }
        let whole = side == .uplink ? reply(payload: payload) : request(payload: payload)
        return FragmentedPacket(
            side, whole, side == .uplink ? returned(whole) : forwarded(whole), of: 48, identification)
    }

    /// An error from outside about a packet as it was there.
    fileprivate func error(
        _ kind: ICMPErrorKind, from router: Packet.Address, about packet: Packet, limit: Int
    ) -> Packet {
        Packet.icmpError(from: router, to: external.address, kind, about: packet, limit: limit)
            .with { $0.link = (serverMAC, "02:00:00:00:01:01") }
    }

    /// What must become of it: about the packet as the container has sent it.
    fileprivate func errorInside(
        _ kind: ICMPErrorKind, from router: Packet.Address, about packet: Packet, limit: Int
    ) -> Packet {
        Packet.icmpError(from: router, to: container.address, kind, about: packet, limit: limit).with {
            $0.link = ("02:00:00:00:02:01", containerMAC)
            $0.ttl -= 1
        }
    }
}
