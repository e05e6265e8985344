/// Programs that keep traffic going while a test changes something. SIGINT ends them in good order.
extension Script {
    static func tcpNamed(_ name: String) -> String {
        tcpServer + """
            class Handler(socketserver.StreamRequestHandler):
                def handle(self):
                    for line in self.rfile:
                        self.wfile.write(b"\(name) " + line)
            Server(("::", int(sys.argv[1])), Handler).serve_forever()
            """
    }

    static let interruptible =
        prelude + """
            import json, signal, time
            stopped = False
            def stop(*_):
                global stopped
                stopped = True
            signal.signal(signal.SIGINT, stop)
            def family(address):
                return socket.AF_INET6 if ":" in address else socket.AF_INET

            """

    /// Arguments: address, port, source port, seconds between lines. One connection; prints each answer.
    static let tcpPulse =
        interruptible + """
            peer = socket.socket(family(sys.argv[1]))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            peer.bind(("", int(sys.argv[3])))
            peer.settimeout(20)
            peer.connect((sys.argv[1], int(sys.argv[2])))
            lines = peer.makefile("rb")
            number = 0
            while not stopped:
                peer.sendall(b"%d\\n" % number)
                line = lines.readline()
                if not line:
                    sys.exit("closed by the server")
                print(line.decode().strip())
                number += 1
                time.sleep(float(sys.argv[4]))
            """

    /// The same over UDP from one source port: an answer, "lost" after 0.2 s without one, "refused" for an ICMP error.
    static let udpPulse =
        interruptible + """
            peer = socket.socket(family(sys.argv[1]), socket.SOCK_DGRAM)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            peer.bind(("", int(sys.argv[3])))
            peer.settimeout(0.2)
            peer.connect((sys.argv[1], int(sys.argv[2])))
            number = 0
            while not stopped:
                try:
                    peer.send(b"%d" % number)
                    print(peer.recv(2048).decode())
                except TimeoutError:
                    print("lost")
                except ConnectionRefusedError:
                    print("refused")
                number += 1
                time.sleep(float(sys.argv[4]))
            """

    /// Arguments: address, port, workers, connections of each (0: until SIGINT), source addresses with commas. Each
    /// connection sends a line, wants it back and closes. Prints {"succeeded", "failures": {text: count}, "slowest"}.
    static let storm =
        interruptible + """
            import asyncio, collections
            address, port, workers, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
            sources = [source for source in sys.argv[5].split(",") if source]
            succeeded, slowest, failures = 0, 0.0, collections.Counter()
            async def connect(line, source):
                local = (source, 0) if source else None
                reader, writer = await asyncio.open_connection(address, port, local_addr=local)
                try:
                    writer.write(line)
                    answer = await reader.readline()
                    if answer != line:
                        raise EOFError(f"answer {answer[:20]}")
                finally:
                    writer.close()
            async def work(worker):
                global succeeded, slowest
                number = 0
                while not stopped and (number < count or not count):
                    began = time.monotonic()
                    try:
                        source = sources[worker % len(sources)] if sources else None
                        await asyncio.wait_for(connect(b"%d of %d\\n" % (number, worker), source), 20)
                        succeeded += 1
                        if succeeded % 50 == 1:
                            print("succeeded", succeeded, file=sys.stderr)
                    except Exception as error:
                        failures[f"{type(error).__name__} {error}"] += 1
                        await asyncio.sleep(0.01)
                    slowest = max(slowest, time.monotonic() - began)
                    number += 1
            async def main():
                await asyncio.gather(*[work(worker) for worker in range(workers)])
            asyncio.run(main())
            print(json.dumps({"succeeded": succeeded, "failures": failures, "slowest": slowest}))
            """

    /// Both ends of a burst: one call, which the kernel cuts into datagrams of `size` as late as it can.
    private static let segmented =
        prelude + """
            size, count = 1200, 40
            def burst(peer, block, *to):
                peer.setsockopt(socket.SOL_UDP, 103, size) # UDP_SEGMENT
                peer.sendmsg([block], [], 0, *to)

            """

    static let udpSegmentedServer =
        segmented + """
            server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            server.bind(("::", int(sys.argv[1])))
            parts = {}
            while True:
                data, peer = server.recvfrom(65536)
                have = parts.setdefault(peer, [])
                have.append(data)
                if len(have) == count:
                    burst(server, b"".join(part[::-1] for part in parts.pop(peer)), peer)
            """

    /// Arguments: address, port, rounds. Every datagram must come back, reversed, in order and of its size.
    static let udpSegmentedClient =
        segmented + """
            family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
            client = socket.socket(family, socket.SOCK_DGRAM)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            client.settimeout(5)
            client.connect((sys.argv[1], int(sys.argv[2])))
            for number in range(int(sys.argv[3])):
                block = os.urandom(size * count)
                burst(client, block)
                for index in range(count):
                    data = client.recv(65536)
                    if data[::-1] != block[index * size:(index + 1) * size]:
                        sys.exit(f"datagram {index} of round {number}: {len(data)} bytes, not what was sent")
            """

    /// Arguments: interface. Sends each line of standard input, hexadecimal, as a frame.
    static let inject =
        prelude + """
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            wire.bind((sys.argv[1], 0))
            for line in sys.stdin:
                wire.send(bytes.fromhex(line))
            """

    /// Arguments: address, port, traffic class. One TCP exchange, then datagrams with DF, without, and (IPv4) without checksum.
    static let marked =
        prelude + """
            address, port, mark = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
            ipv6 = ":" in address
            def client(kind):
                made = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, kind)
                if ipv6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, mark)
                else:
                    made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, mark)
                made.settimeout(5)
                return made
            stream = client(socket.SOCK_STREAM)
            stream.connect((address, port))
            stream.sendall(b"segment")
            assert stream.recv(100) == b"segment"
            stream.shutdown(socket.SHUT_WR)
            assert stream.recv(100) == b""
            for options in [(0, 10, 2)], [(0, 10, 0)], [(socket.SOL_SOCKET, 11, 1)]: # IP_MTU_DISCOVER, SO_NO_CHECK
                if ipv6 and options[0][0] != 0:
                    continue
                datagrams = client(socket.SOCK_DGRAM)
                if not ipv6:
                    datagrams.setsockopt(*options[0])
                datagrams.connect((address, port))
                datagrams.send(b"datagram")
                assert datagrams.recv(100) == b"datagram"
            """

    /// Arguments: interface. Attaches a tcx program at the end of ingress that counts packets and passes them on; prints the
    /// count whenever it has changed.
    static let packetCounter =
        interruptible + """
            import ctypes, platform
            number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
            libc = ctypes.CDLL(None, use_errno=True)
            def bpf(command, attributes):
                attributes = ctypes.create_string_buffer(attributes.ljust(128, b"\\0"), 128)
                result = libc.syscall(number, command, attributes, 128)
                if result < 0:
                    raise OSError(ctypes.get_errno(), f"bpf command {command}")
                return result
            def pointer(buffer):
                return ctypes.addressof(buffer)
            point = int(sys.argv[2])
            kind, result = (6, 2) if point == 37 else (3, -1) # XDP and XDP_PASS, or SCHED_CLS and TCX_NEXT
            table = bpf(0, struct.pack("=4I", 2, 4, 8, 1)) # an array of one 64-bit number
            code = [(0x62, 10, 0, -4, 0), (0xbf, 2, 10, 0, 0), (0x07, 2, 0, 0, -4), (0x18, 1, 1, 0, table), (0, 0, 0, 0, 0),
                    (0x85, 0, 0, 0, 1), (0x15, 0, 0, 2, 0), (0xb7, 1, 0, 0, 1), (0xdb, 0, 1, 0, 0), (0xb7, 0, 0, 0, result),
                    (0x95, 0, 0, 0, 0)]
            instructions = ctypes.create_string_buffer(
                b"".join(struct.pack("=BBhi", op, to | source << 4, offset, value) for op, to, source, offset, value in code))
            licence = ctypes.create_string_buffer(b"GPL")
            program = bpf(5, struct.pack("=IIQQIIQII16sII", kind, len(code), pointer(instructions), pointer(licence),
                                         0, 0, 0, 0, 0, b"counter", 0, point))
            link = bpf(28, struct.pack("=4I", program, socket.if_nametoindex(sys.argv[1]), point, 0))
            key, value, last = ctypes.c_uint32(0), ctypes.c_uint64(0), None
            while not stopped:
                bpf(1, struct.pack("=IIQQ", table, 0, pointer(key), pointer(value)))
                if value.value != last:
                    last = value.value
                    print(last)
                time.sleep(0.01)
            """
}
