/// The Python programs behind the traffic tools; the distribution's own interpreter runs them.
enum Script {
    static func python(_ script: String, _ arguments: String...) -> [String] {
        ["/usr/bin/python3", "-u", "-I", "-c", script] + arguments
    }

    /// `plain`: a peer's address, without the prefix that an IPv4 peer has on an IPv6 socket.
    static let prelude = """
        import errno, hashlib, os, selectors, socket, socketserver, struct, sys, threading
        def plain(peer):
            return peer[0].removeprefix("::ffff:")

        """

    static let http =
        prelude + """
            import http.server
            class Handler(http.server.BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"
                def do_GET(self):
                    body = f"{plain(self.client_address)} {self.client_address[1]}\\n".encode()
                    if self.path.startswith("/bytes/"):
                        body = b"x" * int(self.path.split("/")[2])
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                def address_string(self):
                    return plain(self.client_address)
            class Server(http.server.ThreadingHTTPServer):
                address_family = socket.AF_INET6
                request_queue_size = 1024
                def server_bind(self):
                    socketserver.TCPServer.server_bind(self)
                    self.server_name, self.server_port = "test", self.server_address[1]
            Server(("::", int(sys.argv[1])), Handler).serve_forever()
            """

    static let tcpServer =
        prelude + """
            class Server(socketserver.ThreadingTCPServer):
                address_family = socket.AF_INET6
                allow_reuse_address = daemon_threads = True
                request_queue_size = 1024

            """

    static let tcpEcho =
        tcpServer + """
            class Handler(socketserver.BaseRequestHandler):
                def handle(self):
                    while data := self.request.recv(65536):
                        self.request.sendall(data)
            Server(("::", int(sys.argv[1])), Handler).serve_forever()
            """

    /// One socket for each family, so that neither family depends on bindv6only. While the container has no address, what has
    /// come in before goes unanswered.
    static func udp(reply: String) -> String {
        prelude + """
            ready = selectors.DefaultSelector()
            for family, host in [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]:
                server = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                server.bind((host, int(sys.argv[1])))
                ready.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    data, peer = key.fileobj.recvfrom(65536)
                    try:
                        key.fileobj.sendto(\(reply), peer)
                    except OSError as error:
                        if error.errno != errno.ENETUNREACH:
                            raise
            """
    }

    /// Arguments: address, port, source port, seconds. The socket is not connected, so the answer's sender is checked.
    static let udpClient =
        prelude + """
            address, port, source, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            client = socket.socket(family, socket.SOCK_DGRAM)
            client.bind(("", source))
            client.settimeout(seconds)
            client.sendto(sys.stdin.buffer.read(), (address, port))
            data, peer = client.recvfrom(65536)
            if peer[:2] != (address, port):
                sys.exit(f"answer from {peer[:2]} instead of {(address, port)}")
            sys.stdout.buffer.write(data)
            """

    /// Arguments: address, port, source port, hops, seconds. Prints type, code and sender of the error that comes back
    /// (struct sock_extended_err, then its sender's address), or nothing.
    static let udpError =
        prelude + """
            address, (port, source, hops), seconds = sys.argv[1], map(int, sys.argv[2:5]), float(sys.argv[5])
            is_v6 = ":" in address
            client = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
            level, ttl, errors = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 25) if is_v6 else (socket.IPPROTO_IP, socket.IP_TTL, 11)
            client.setsockopt(level, ttl, hops)
            client.setsockopt(level, errors, 1)
            client.bind(("", source))
            client.settimeout(seconds)
            client.connect((address, port))
            client.send(b"probe")
            try:
                client.recv(100)
            except TimeoutError:
                sys.exit()
            except OSError:
                _, [(_, _, error), *_], _, _ = client.recvmsg(100, 512, socket.MSG_ERRQUEUE)
                sender = error[24:40] if is_v6 else error[20:24]
                print(error[5], error[6], socket.inet_ntop(client.family, sender))
            """

    /// Both ends: `send` and `receive` n bytes and return their hash.
    private static let transfer =
        """
        def send(peer, count):
            total, block = hashlib.sha256(), os.urandom(1 << 20)
            while count > 0:
                block = block[4096:] + os.urandom(4096)
                part = block[:count]
                peer.sendall(part)
                total.update(part)
                count -= len(part)
            return total.hexdigest()
        def receive(peer, count):
            total = hashlib.sha256()
            while count > 0:
                data = peer.recv(min(count, 1 << 18))
                if not data:
                    raise EOFError(f"{count} bytes missing")
                total.update(data)
                count -= len(data)
            return total.hexdigest()

        """

    /// Request: 1 byte (1 = the client sends), 8 bytes count. After the data the server sends its hash.
    static let bulkServer =
        tcpServer + transfer + """
            class Handler(socketserver.BaseRequestHandler):
                def handle(self):
                    upload, count = struct.unpack("!BQ", self.request.recv(9, socket.MSG_WAITALL))
                    total = (receive if upload else send)(self.request, count)
                    self.request.sendall(total.encode())
            Server(("::", int(sys.argv[1])), Handler).serve_forever()
            """

    /// Arguments: address, port, direction, bytes. Prints its own hash and the server's.
    static let bulkClient =
        prelude + transfer + """
            count, upload = int(sys.argv[4]), sys.argv[3] == "upload"
            with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as peer:
                peer.sendall(struct.pack("!BQ", upload, count))
                mine = (send if upload else receive)(peer, count)
                print(mine, peer.recv(64, socket.MSG_WAITALL).decode())
            """
}
