import FastNATTesting

/// A client and a target that talk through a published port: the packets of both as they arrive at the host, and what
/// must become of them.
struct Conversation {
    var transport: Transport
    var client: Packet.Endpoint
    /// Where the client sends to.
    var published: Packet.Endpoint
    /// Where the mapping leads.
    var target: Packet.Endpoint
    /// The source port that the target sees: the client's own, as a rule.
    var translatedPort: UInt16?
    /// From where the host gets the client's packets, and to where it sends the replies.
    var clientMAC = TestNetwork.clientMAC
    var targetMAC = TestNetwork.targetMAC
    /// The host's devices.
    var uplinkMAC: Packet.MAC = "02:00:00:00:01:01"
    var containerMAC: Packet.MAC = "02:00:00:00:02:01"

    /// A conversation through port 8080, that `Family.standardMappings` leads to port 80 of the target, and a mapping of SCTP to
    /// port 8080.
    init(_ family: Family, _ transport: Transport, clientPort: UInt16 = 40_000) {
        self.transport = transport
        client = Packet.Endpoint(family.client, port: clientPort)
        published = Packet.Endpoint(family.host, port: 8080)
        target = Packet.Endpoint(family.target, port: transport == .sctp ? 8080 : 80)
    }

    init(_ way: Way, _ transport: Transport) { self.init(way.family, transport) }
    init(_ way: TransportWay) { self.init(way.family, way.transport) }
    init(_ kind: Kind) { self.init(kind.family, kind.transport) }

    /// A changed copy.
    func with(_ change: (inout Conversation) -> Void) -> Conversation {
        var copy = self
        change(&copy)
        return copy
    }

    /// From the client, at the uplink.
    func request(_ flags: Packet.TCPFlags = .ack, payload: [UInt8] = [], options: [UInt8] = []) -> Packet {
        transport.packet(from: client, to: published, flags, options: options, payload: payload).with {
            $0.link = (clientMAC, uplinkMAC)
        }
    }

    /// From the target, at the device towards containers.
    func reply(_ flags: Packet.TCPFlags = .ack, payload: [UInt8] = [], options: [UInt8] = []) -> Packet {
        transport.packet(from: target, to: seenClient, flags, options: options, payload: payload, isRequest: false).with
        {
            $0.link = (targetMAC, containerMAC)
        }
    }

    /// What must become of a request.
    func forwarded(_ request: Packet) -> Packet {
        request.with {
            $0.source = seenClient
            $0.destination = target
            $0.ttl -= 1
            $0.link = (containerMAC, targetMAC)
        }
    }

    /// What must become of a reply.
    func returned(_ reply: Packet) -> Packet {
        reply.with {
            $0.source = published
            $0.destination = client
            $0.ttl -= 1
            $0.link = (uplinkMAC, clientMAC)
        }
    }

    private var seenClient: Packet.Endpoint { Packet.Endpoint(client.address, port: translatedPort ?? client.port) }
}

extension Family {
    /// Port 8080 of any local address, TCP and UDP, to port 80 of the target.
    var standardMappings: [String] { ["8080/tcp", "8080/udp"].map { mapping($0, to: "80") } }
}
