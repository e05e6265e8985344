import Foundation

/// A flood of SYNs and datagrams, as many of each, to a block of 256 ports of TCP and of UDP, each packet with a source address
/// and ports of its own taken at random.
///
/// Every random 16 bits of a packet stand once more in it as their complement: two in the source address, two in the TCP
/// sequence number or the UDP payload. So the checksums are the same in all packets, and right.
public final class NewFlowFlood: Sendable {
    private let process: ChildProcess

    /// Starts to send from `eth0` of the client to the block in which `first` is a port, whose low byte is 0: `count` packets at
    /// least, and on until it is stopped.
    public init(ofAtLeast count: Int, to first: Packet.Endpoint, in topology: Topology) throws(TestingError) {
        let namespace = topology.client.namespace
        let link = (
            try namespace.linkAddress(of: "eth0"), try topology.host.linkAddress(of: topology.uplinks[0])
        )
        process = try namespace.spawn(
            Script.python(
                Script.newFlowFlood, "eth0", "\(count)", Self.template(Self.segment(to: first), link, sequenceAt: 4),
                Self.template(Self.datagram(to: first), link, sequenceAt: 8)))
    }

    /// Whether the kernel has taken `count` packets; throws if it sends no more.
    public func isComplete() throws(TestingError) -> Bool {
        guard process.isRunning else { throw .commandFailed(try process.wait()) }
        return !process.output.isEmpty
    }

    /// Sends no more.
    public func stop() throws(TestingError) {
        process.signal(SIGINT)
        try process.wait(timeout: .seconds(60)).check()
    }

    /// An address and a port of the shape that all have.
    private static func source(to port: Packet.Endpoint) -> Packet.Endpoint {
        port.address.isIPv6 ? "[1234:edcb:0:0:5678:a987:0:1]:4660" : "18.52.237.203:4660"
    }

    private static func segment(to port: Packet.Endpoint) -> Packet {
        let source = source(to: port)
        let sequence = ~(UInt32(source.port) << 16 | UInt32(port.port))
        return .tcp(
            from: source, to: port, .syn, sequence: sequence, options: Packet.TCP.maximumSegmentSize(1_460))
    }

    private static func datagram(to port: Packet.Endpoint) -> Packet {
        let source = source(to: port)
        let words = [~source.port, ~port.port]
        return .udp(from: source, to: port, payload: words.flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] })
    }

    /// Such as "hex 26:28 27:29 …": the frame, and where a random byte goes and its complement.
    private static func template(
        _ packet: Packet, _ link: (source: Packet.MAC, destination: Packet.MAC), sequenceAt sequence: Int
    ) -> String {
        var packet = packet
        packet.ethernet?.source = link.source
        packet.ethernet?.destination = link.destination
        let isIPv6 = packet.ipv6 != nil
        let transport = isIPv6 ? 54 : 34
        let addresses = isIPv6 ? [(22, 24), (23, 25), (30, 32), (31, 33)] : [(26, 28), (27, 29)]
        // Of the destination port, the low byte.
        let ports = [0, 1, 3].map { (transport + $0, transport + sequence + $0) }
        return ([hexText(packet.bytes)] + (addresses + ports).map { "\($0):\($1)" }).joined(separator: " ")
    }
}

/// Many TCP connections to a `.tcpEcho` server that carry data in rounds, some 0.2 s apart: each sends random bytes, then all
/// want theirs back.
public final class Conversations: Sendable {
    private let process: ChildProcess

    /// Opens so many and waits for the first round.
    public init(_ count: Int, to server: Packet.Endpoint, from client: NetworkNamespace) throws(TestingError) {
        process = try client.spawn(
            Script.python(Script.conversations, server.address.description, "\(server.port)", "\(count)"))
        try process.waitUntil(printed: "\n")
    }

    /// Rounds so far in which every connection got back what it had sent.
    public var rounds: Int { process.output.split(separator: "\n").count }

    /// Waits for so many rounds more.
    public func awaitRounds(_ count: Int, timeout: Duration = .seconds(30)) throws(TestingError) {
        let wanted = rounds + count
        try awaitCondition("\(wanted) rounds: \(process.errors)", timeout: timeout) { () throws(TestingError) in
            if !process.isRunning { throw .commandFailed(try process.wait()) }
            return rounds >= wanted
        }
    }

    /// Ends the round, closes all connections and wants all of them closed by the server; throws if any had been reset, or had
    /// not answered for 15 seconds.
    public func stop() throws(TestingError) {
        process.signal(SIGINT)
        try process.wait(timeout: .seconds(60)).check()
    }
}

extension Script {
    /// Arguments: interface, count, templates as of `NewFlowFlood`. Sends packets, of each template the same number, and prints a
    /// line when there were so many; those that the kernel does not take are sent again.
    fileprivate static let newFlowFlood =
        interruptible + """
            import ctypes
            BATCH = 1024
            complements = bytes(255 - byte for byte in range(256))
            libc = ctypes.CDLL(None, use_errno=True)
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            wire.bind((sys.argv[1], 0))
            class Batch:
                def __init__(self, template):
                    frame, *places = template.split()
                    self.places = [[int(place) for place in pair.split(":")] for pair in places]
                    frame = bytes.fromhex(frame)
                    self.stride = len(frame)
                    self.frames = bytearray(frame * BATCH)
                    self.memory = (ctypes.c_char * len(self.frames)).from_buffer(self.frames)
                    start = ctypes.addressof(self.memory)
                    self.vectors = ctypes.create_string_buffer(b"".join(
                        struct.pack("=QQ", start + index * self.stride, self.stride) for index in range(BATCH)))
                    vector = ctypes.addressof(self.vectors)
                    self.messages = ctypes.create_string_buffer(b"".join(
                        struct.pack("=8Q", 0, 0, vector + 16 * index, 1, 0, 0, 0, 0) for index in range(BATCH)))
                def send(self):
                    for place, complement in self.places:
                        random = os.urandom(BATCH)
                        self.frames[place::self.stride] = random
                        self.frames[complement::self.stride] = random.translate(complements)
                    sent = 0
                    while sent < BATCH:
                        message = ctypes.c_void_p(ctypes.addressof(self.messages) + 64 * sent)
                        taken = libc.sendmmsg(wire.fileno(), message, BATCH - sent, 0)
                        sent += max(0, taken)
                        if sent < BATCH: # the other end of the wire has no room
                            os.sched_yield()
            batches, left = [Batch(template) for template in sys.argv[3:]], int(sys.argv[2])
            while not stopped:
                for batch in batches:
                    batch.send()
                    if left > 0 >= left - BATCH:
                        print("complete")
                    left -= BATCH
            """

    /// Arguments: address, port, connections. Prints a line a round.
    fileprivate static let conversations =
        interruptible + """
            import resource
            address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            def connect():
                peer = socket.socket(family(address))
                peer.settimeout(15)
                peer.connect((address, port))
                return peer
            peers = [connect() for _ in range(count)]
            rounds = 0
            while not stopped:
                sent = [(peer, os.urandom(100)) for peer in peers]
                for peer, data in sent:
                    peer.sendall(data)
                for peer, data in sent:
                    if peer.recv(len(data), socket.MSG_WAITALL) != data:
                        sys.exit(f"round {rounds}: {peer.getsockname()} did not get back what it had sent")
                rounds += 1
                print(rounds)
                time.sleep(0.2)
            for peer in peers:
                peer.shutdown(socket.SHUT_WR)
            for peer in peers:
                if peer.recv(1):
                    sys.exit(f"{peer.getsockname()} got more than it had sent")
            """
}
