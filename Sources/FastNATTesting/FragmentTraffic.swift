import Foundation

extension Script {
    /// Arguments: port. Prints "address port length sha256" for each datagram.
    static let udpPrint =
        prelude + """
            server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            server.bind(("::", int(sys.argv[1])))
            while True:
                data, peer = server.recvfrom(65536)
                print(plain(peer), peer[1], len(data), hashlib.sha256(data).hexdigest())
            """

    /// Arguments: port. Answers as many bytes as the datagram says, without DF.
    static let udpBytes =
        prelude + """
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.setsockopt(socket.IPPROTO_IP, 10, 0) # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
            server.bind(("0.0.0.0", int(sys.argv[1])))
            while True:
                data, peer = server.recvfrom(65536)
                server.sendto(bytes(number * 7 // 5 % 256 for number in range(int(data))), peer)
            """

    /// Arguments: interface, frames a second. Sends the frames of standard input (a line each, hexadecimal) over and over;
    /// prints how many were sent, first after a second, then at the end.
    static let flood =
        interruptible + """
            import ctypes
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            wire.bind((sys.argv[1], 0))
            frames = [bytes.fromhex(line) for line in sys.stdin]
            libc = ctypes.CDLL(None, use_errno=True)
            class Vector(ctypes.Structure):
                _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]
            class Message(ctypes.Structure):
                _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint), ("vector", ctypes.POINTER(Vector)),
                            ("vectors", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controls", ctypes.c_size_t),
                            ("flags", ctypes.c_int), ("sent", ctypes.c_uint)]
            vectors = [Vector(frame, len(frame)) for frame in frames]
            messages = (Message * len(frames))(*[Message(None, 0, ctypes.pointer(vector), 1) for vector in vectors])
            began, sent, place, told, batch = time.monotonic(), 0, 0, False, 100
            while not stopped:
                ahead = sent / int(sys.argv[2]) - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)
                if place + batch > len(frames):
                    place = 0
                done = libc.sendmmsg(wire.fileno(), ctypes.byref(messages, place * ctypes.sizeof(Message)), batch, 0)
                sent, place = sent + max(done, 0), place + batch
                if not told and time.monotonic() - began > 1:
                    told = True
                    print(sent)
            print(sent)
            """
}

/// Frames that are sent over and over, so many a second.
public final class Flood: Sendable {
    private let process: ChildProcess

    /// Starts it and waits until it has run for a second.
    public init(
        _ frames: [[UInt8]], framesPerSecond: Int, into interface: String, of namespace: NetworkNamespace
    ) throws(TestingError) {
        let lines = frames.map { hexText($0) + "\n" }.joined()
        process = try namespace.spawn(
            Script.python(Script.flood, interface, "\(framesPerSecond)"), input: Array(lines.utf8))
        try process.waitUntil(printed: "\n")
    }

    /// Ends it; how many frames were sent.
    public func stop() throws(TestingError) -> Int {
        process.signal(SIGINT)
        try process.wait().check()
        return process.output.split(separator: "\n").last.flatMap { Int($0) } ?? 0
    }
}

extension TrafficServer {
    /// Waits until a `.udpPrint` server has had so many datagrams, and returns "address port length sha256" of each.
    public func awaitDatagrams(_ count: Int, timeout: Duration = .seconds(3)) throws(TestingError) -> [Substring] {
        func lines() -> [Substring] { process.output.split(separator: "\n") }
        try awaitCondition("\(count) datagrams: \(lines())", timeout: timeout) { lines().count >= count }
        return lines()
    }
}
