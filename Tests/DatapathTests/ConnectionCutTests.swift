import BPF
import FastNATTesting
import Testing

@testable import FastNAT

/// Connections that are cut with their mapping, and mappings in the place of others.
@Suite struct ConnectionCutTests {
    @Test(arguments: Way.all, [Packet.TCPFlags.ack, [.fin, .ack], [.psh, .ack]])
    func `a segment on a cut connection becomes a RST for the other end`(way: Way, flags: Packet.TCPFlags) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        try datapath.datapath.removeMappings([datapath.installed(conversation).mapping.listen], ending: .cut)
        #expect(try datapath.states() == [.closing])
        let payload = [UInt8](repeating: 7, count: 99)
        let request = conversation.request(flags, payload: payload)
        let reply = conversation.reply(flags, payload: payload, options: [1, 1, 1, 0])
        for _ in 0..<2 {
            #expect(try datapath.run([request.bytes], at: .xdp).map(\.action) == [2])  // XDP_PASS
            try datapath.expectForwarded(request, as: conversation.forwarded(request.asReset))
            try datapath.expectForwarded(reply, as: conversation.returned(reply.asReset), on: .container)
        }
    }

    @Test(arguments: Family.allCases)
    func `a segment on a cut connection is answered with a RST`(family: Family) throws {
        let datapath = try TestDatapath(network: try TestNetwork())
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.datapath.removeAllMappings(ending: .cut)
        let packets = [
            (conversation.request(payload: [1]), Side.uplink, "uplink-peer"),
            (conversation.reply(payload: [1]), .container, "ctr-peer"),
        ]
        for (packet, side, peer) in packets {
            let segment = packet.with { $0.tcp?.acknowledgement = 77 }
            let capture = try Capture(peer, in: datapath.network.namespace, .received, filter: "tcp")
            #expect(try datapath.outcome(of: segment.bytes, at: .tc, on: side).verdict == .redirected)
            let answer = try segment.answeredWithReset().bytes
            let captured = try capture.waitFor(count: 1)
            #expect(captured.map { diff(answer, $0) } == [[]])
            _ = try capture.stop()
        }
    }

    @Test(arguments: Way.all, [Side.uplink, .container])
    func `a RST on a cut connection goes its way`(way: Way, side: Side) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way, .tcp)
        try datapath.open(conversation)
        try datapath.datapath.removeAllMappings(ending: .cut)
        if side == .uplink {
            try datapath.expectForwarded(conversation, conversation.request(.rst))
            try datapath.expectForwarded(
                conversation.request(), as: conversation.forwarded(conversation.request().asReset))
        } else {
            try datapath.expectReturned(conversation, conversation.reply([.rst, .ack]))
        }
    }

    @Test(arguments: Family.allCases)
    func `a connection that was just begun is cut like others, and half-open no more`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.expectForwarded(conversation, conversation.request(.syn))
        try datapath.datapath.removeAllMappings(ending: .cut)
        #expect(try datapath.states() == [.closing])
        let count = try datapath.datapath.flowCount()
        #expect(count.flows == 1 && count.halfOpen == 0)
        let reply = conversation.reply([.syn, .ack])
        try datapath.expectForwarded(reply, as: conversation.returned(reply.asReset), on: .container)
    }

    @Test(arguments: Family.allCases)
    func `a segment of a cut connection with IPv4 options or without ACK is dropped`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        try datapath.open(conversation)
        try datapath.datapath.removeAllMappings(ending: .cut)
        var packets = [conversation.request([.fin])]
        if family == .ipv4 { packets.append(conversation.request().with { $0.ipv4?.options = [1, 1, 1, 0] }) }
        for packet in packets { #expect(try datapath.outcome(of: packet.bytes, at: .tc).verdict == .dropped) }
    }

    @Test(arguments: Kind.all)
    func `after a cut, only a mapping that is there begins a flow, and UDP has ended`(kind: Kind) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        try datapath.datapath.removeAllMappings(ending: .cut)
        try datapath.expectPassed(conversation.request(.syn))
        #expect(try datapath.states() == [])
        try datapath.add([kind.family.mapping("8080/\(kind.transport)", to: "81")])
        try datapath.open(conversation.with { $0.target.port = 81 })
        #expect(try datapath.datapath.flowCount().flows == 1)
    }

    @Test(arguments: Family.allCases)
    func `a cut leaves the connections of other mappings`(family: Family) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(family, .tcp)
        let other = Conversation(family == .ipv4 ? .ipv6 : .ipv4, .tcp)
        for each in [conversation, other] { try datapath.open(each) }
        try datapath.datapath.removeMappings([datapath.installed(conversation).mapping.listen], ending: .cut)
        try datapath.expectForwarded(other, other.request())
        try datapath.expectReturned(other, other.reply())
    }

    @Test(arguments: TransportWay.all, [FlowEnding.drain, .cut])
    func `a replaced mapping: new flows follow at once, TCP drains or is cut, UDP ends`(
        way: TransportWay, ending: FlowEnding
    ) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let replacement = try PortMapping(parsing: way.family.mapping("8080/\(way.transport)", to: "81"))
        try datapath.datapath.replaceMappings([replacement], ending: ending)
        let moved = conversation.with { $0.target.port = 81 }
        try datapath.open(moved.with { $0.client.port += 1 })
        switch (way.transport, ending) {
        case (.tcp, .drain):
            try datapath.expectForwarded(conversation, conversation.request(), at: way.hook)
            try datapath.expectReturned(conversation, conversation.reply(), at: way.hook)
        case (.tcp, .cut):
            let request = conversation.request()
            try datapath.expectForwarded(request, as: conversation.forwarded(request.asReset))
            try datapath.open(moved)
        default:
            try datapath.expectPassed(conversation.reply(), at: way.hook, on: .container)
            try datapath.open(moved)
        }
    }

    @Test(arguments: Family.allCases)
    func `a replacement takes the range, the networks and nothing else of the mapping before`(family: Family) throws {
        let network = "\(family.client)/\(family == .ipv4 ? 32 : 128)"
        let datapath = try TestDatapath([
            family.mapping("8080-8089/tcp", to: "80", allow: [network]), family.mapping("8090/tcp", to: "90"),
        ])
        let conversation = Conversation(family, .tcp).with { $0.published.port = 8085 }
        try datapath.open(conversation)
        let open = family.mapping("8080-8089/tcp", to: "180")
        try datapath.datapath.replaceMappings([
            try PortMapping(parsing: open), try PortMapping(parsing: family.mapping("9000/tcp", to: "1")),
        ])
        let stranger = conversation.with {
            $0.client.address = family.farClient
            $0.clientMAC = TestNetwork.gatewayMAC
            $0.target.port = 180
        }
        try datapath.open(stranger)
        #expect(try datapath.maps.sources.keys().isEmpty)
        #expect(try datapath.datapath.mappings().map(\.mapping.target.ports.first) == [180, 90, 1])
    }

    @Test(arguments: Family.allCases)
    func `a replacement that overlaps another mapping changes nothing`(family: Family) throws {
        let datapath = try TestDatapath()
        try datapath.add([family.mapping("8081-8083/tcp", to: "1")])
        let before = try datapath.datapath.mappings().map(\.mapping)
        let new = try ["8080/tcp", "8083-8084/tcp"].map { try PortMapping(parsing: family.mapping($0, to: "2")) }
        #expect(throws: FastNATError.self) { try datapath.datapath.replaceMappings(new) }
        #expect(try datapath.datapath.mappings().map(\.mapping) == before)
    }
}

extension Packet {
    /// The RST that the end of no connection answers a TCP segment with (RFC 9293, 3.5.2), back on its way.
    fileprivate func answeredWithReset() throws -> Packet {
        let (source, destination, link) = try (#require(source), #require(destination), #require(link))
        return with {
            $0.source = destination
            $0.destination = source
            $0.link = (link.destination, link.source)
            if let acknowledgement = tcp?.acknowledgement { $0.tcp?.sequence = acknowledgement }
        }.asReset
    }
}
