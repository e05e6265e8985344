/// What a program says that has talked to somebody through a socket: the answer, and whom it believes that it talked to.
public struct SocketTalk: Sendable, Hashable {
    /// How a socket is used.
    public enum Use: String, Sendable, CaseIterable {
        /// `connect`, then lines.
        case tcp
        /// `connect`, then `send` and `recvfrom`.
        case udpConnected
        /// `sendto` and `recvfrom`.
        case udpUnconnected

        /// What it speaks.
        public var transport: TransportProtocol { self == .tcp ? .tcp : .udp }
    }

    /// What the other end said; nil when it did not.
    public let answer: String?
    /// What `getpeername` says, or who has sent the datagram, on a connected datagram socket both.
    public let peers: Set<Packet.Endpoint>
    /// Why there is no answer: a name of errno, or `timeout`.
    public let error: String?
}

extension Traffic {
    /// Says a line to each of the servers from one socket, and reports on each. A socket that connects has one server; one
    /// that does not says everything before it listens, and reports answers in the order in which they come.
    ///
    /// - Parameters:
    ///   - source: what the socket is bound to first.
    ///   - device: the interface that the socket is bound to.
    public static func talk(
        _ use: SocketTalk.Use, with servers: [Packet.Endpoint], from client: NetworkNamespace,
        source: Packet.Endpoint? = nil, device: String? = nil, via entry: NetworkNamespace.Entry = .nsenter
    ) throws(TestingError) -> [SocketTalk] {
        let arguments = [use.rawValue, source?.description ?? "-", device ?? "-"] + servers.map(\.description)
        let lines = try client.command(Script.python(Script.talk) + arguments, via: entry).output.split(separator: "\n")
        return try lines.map { line throws(TestingError) in
            let words = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            if words[0] == "error" { return SocketTalk(answer: nil, peers: [], error: words[1]) }
            let peers = try words[2...].map { text throws(TestingError) in try Packet.Endpoint(text) }
            return SocketTalk(answer: words[1], peers: Set(peers), error: nil)
        }
    }

    /// The same with one server.
    public static func talk(
        _ use: SocketTalk.Use, with server: Packet.Endpoint, from client: NetworkNamespace,
        source: Packet.Endpoint? = nil, device: String? = nil, via entry: NetworkNamespace.Entry = .nsenter
    ) throws(TestingError) -> SocketTalk {
        let reports = try talk(use, with: [server], from: client, source: source, device: device, via: entry)
        guard reports.count == 1 else { throw .malformed("\(reports.count) reports of one talk") }
        return reports[0]
    }
}

extension Script {
    /// Arguments: use, source or -, device or -, servers. Prints a line for each server: "ok", the answer and the peers, or
    /// "error" and its name, separated by tabs.
    fileprivate static let talk =
        prelude + """
            import errno
            use, source, device, servers = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
            def endpoint(text):
                address, port = text.rsplit(":", 1)
                return address.strip("[]"), int(port)
            def name(peer):
                return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
            family = socket.AF_INET6 if "[" in servers[0] else socket.AF_INET
            client = socket.socket(family, socket.SOCK_STREAM if use == "tcp" else socket.SOCK_DGRAM)
            client.settimeout(5 if use == "tcp" else 1)
            if device != "-":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            if source != "-":
                client.bind(endpoint(source))
            def talk(server):
                if use == "udpUnconnected":
                    data, sender = client.recvfrom(100)
                    return data, [sender]
                client.connect(server)
                client.send(b"x\\n")
                if use == "tcp":
                    return client.recv(100), [client.getpeername()]
                data, sender = client.recvfrom(100)
                return data, [sender, client.getpeername()]
            if use == "udpUnconnected":
                for server in servers:
                    client.sendto(b"x\\n", endpoint(server))
            for server in servers:
                try:
                    data, peers = talk(endpoint(server))
                    print("ok", data.decode().strip(), *map(name, peers), sep="\\t")
                except OSError as error:
                    print("error", errno.errorcode.get(error.errno, "timeout"), sep="\\t")
            """
}
