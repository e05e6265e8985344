import Addresses
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// A container and a server outside that talk through a masquerade: the packets of both as they arrive at the host, and what
/// must become of them.
struct Outbound {
    var transport: Transport
    var container: Packet.Endpoint
    var server: Packet.Endpoint
    /// As whom the server sees the container.
    var external: Packet.Endpoint
    var containerMAC = TestNetwork.targetMAC
    var serverMAC = TestNetwork.clientMAC

    /// From port 40000 of the container to port 443 of the server, seen under the same port of the host.
    init(_ family: Family, _ transport: Transport) {
        self.transport = transport
        container = Packet.Endpoint(family.target, port: 40_000)
        server = Packet.Endpoint(family.client, port: 443)
        external = Packet.Endpoint(family.host, port: 40_000)
    }

    init(_ kind: Kind) { self.init(kind.family, kind.transport) }
    init(_ way: TransportWay) { self.init(way.family, way.transport) }

    /// A changed copy.
    func with(_ change: (inout Outbound) -> Void) -> Outbound {
        var copy = self
        change(&copy)
        return copy
    }

    /// From the container, at the device towards containers.
    func request(_ flags: Packet.TCPFlags = .ack, payload: [UInt8] = []) -> Packet {
        transport.packet(from: container, to: server, flags, payload: payload).with {
            $0.link = (containerMAC, "02:00:00:00:02:01")
        }
    }

    /// From the server, at the uplink.
    func reply(_ flags: Packet.TCPFlags = .ack, payload: [UInt8] = []) -> Packet {
        transport.packet(from: server, to: external, flags, payload: payload, isRequest: false).with {
            $0.link = (serverMAC, "02:00:00:00:01:01")
        }
    }

    /// What must become of a request.
    func forwarded(_ request: Packet) -> Packet {
        request.with {
            $0.source = external
            $0.ttl -= 1
            $0.link = ("02:00:00:00:01:01", serverMAC)
        }
    }

    /// What must become of a reply.
    func returned(_ reply: Packet) -> Packet {
        reply.with {
            $0.destination = container
            $0.ttl -= 1
            $0.link = ("02:00:00:00:02:01", containerMAC)
        }
    }
}

extension Packet {
    /// An echo, whose identifier is the port of the one who asks.
    static func echo(from source: Endpoint, to destination: Endpoint, isRequest: Bool, payload: [UInt8]) -> Packet {
        isRequest
            ? .echoRequest(
                from: source.address, to: destination.address, identifier: source.port, payload: payload)
            : .echoReply(
                from: source.address, to: destination.address, identifier: destination.port, payload: payload)
    }
}

extension Family {
    /// The containers' network.
    var containers: String { self == .ipv4 ? "172.17.0.0/24" : "fd00:17::/64" }
}

extension TestDatapath {
    /// Masquerades the containers of a family on the uplink, or on another device.
    func masquerade(
        _ family: Family, network: String? = nil, on device: TestNetwork.Device? = nil,
        to source: Packet.Address? = nil,
        ports: ClosedRange<UInt16>? = nil, exempt: [String] = [], _ type: MasqueradeType = .symmetric,
        limits: [String: String] = [:]
    ) throws {
        let device = device ?? self.network.uplink
        let rule = try MasqueradeRule(
            network: IPPrefix(parsing: network ?? family.containers), uplink: device.name,
            source: source.map { try IPAddress(parsing: $0.description) },
            ports: ports.map { try PortRange(first: $0.lowerBound, last: $0.upperBound) },
            exempt: exempt.map { try IPPrefix(parsing: $0) }, type: type, limits: FlowLimits(limits))
        let placed = PlacedMasquerade(rule: rule, uplink: device.index, source: nil)
        try datapath.carryOut(MasqueradeChange(adding: [placed], of: nil, to: try maps.masqueradeEntries())) {}
    }

    /// Sends a first packet, and learns from it as whom the server sees the container.
    func begin(_ outbound: Outbound, sourceLocation: SourceLocation = #_sourceLocation) throws -> Outbound {
        let request = outbound.request(.syn)
        let outcome = try outcome(of: request.bytes, at: .tc, on: .container)
        let external = try #require(PacketView(outcome.packet).source, sourceLocation: sourceLocation)
        let begun = outbound.with { $0.external = external }
        #expect(outcome.verdict == .redirected, sourceLocation: sourceLocation)
        #expect(outcome.counted == [:], sourceLocation: sourceLocation)
        #expect(diff(begun.forwarded(request).bytes, outcome.packet) == [], sourceLocation: sourceLocation)
        return begun
    }

    /// Begins a conversation and has it answered: a TCP handshake, or a datagram each way.
    func open(_ outbound: Outbound, sourceLocation: SourceLocation = #_sourceLocation) throws -> Outbound {
        let begun = try begin(outbound, sourceLocation: sourceLocation)
        try expectReturned(begun, begun.reply([.syn, .ack]), sourceLocation: sourceLocation)
        if begun.transport != .udp { try expectForwarded(begun, begun.request(), sourceLocation: sourceLocation) }
        return begun
    }

    /// Expects that a container's packet reaches the server as it should.
    func expectForwarded(
        _ outbound: Outbound, _ request: Packet, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try expectForwarded(
            request, as: outbound.forwarded(request), on: .container, sourceLocation: sourceLocation)
    }

    /// Expects that a server's packet reaches the container as it should.
    func expectReturned(
        _ outbound: Outbound, _ reply: Packet, at hook: Hook = .tc, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try expectForwarded(reply, as: outbound.returned(reply), at: hook, sourceLocation: sourceLocation)
    }

    /// How many flows live, and how many ports are kept for containers.
    func population() throws -> (flows: Int, endpoints: Int) {
        let states = try states()
        return (states.count { $0 != .endpoint }, states.count { $0 == .endpoint })
    }

    /// Removes every masquerade, flows and all.
    func removeMasquerades() throws {
        try datapath.removeMasquerades { _ in true }
    }
}

extension Outbound {
    /// The same by a later port, also as the server sees it.
    func later(_ number: UInt16 = 1) -> Outbound {
        with {
            $0.container.port += number
            $0.external.port += number
        }
    }
}

extension TestDatapath {
    /// A datapath with an open flow of its masquerade, and what has been found out of that known to every CPU.
    static func masquerading(
        _ kind: Kind, _ mappings: [String] = [], _ masquerade: ((TestDatapath) throws -> Void)? = nil
    ) throws -> (TestDatapath, Outbound) {
        let datapath = try TestDatapath(mappings)
        if let masquerade { try masquerade(datapath) } else { try datapath.masquerade(kind.family) }
        let outbound = try datapath.open(Outbound(kind))
        try datapath.spreadNotes()
        return (datapath, outbound)
    }
}
