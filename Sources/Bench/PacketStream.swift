internal import BPF
internal import CBench
internal import Glibc
internal import Lab

/// Generated UDP packets through a path, and what counts them where they arrive.
final class PacketStream {
    /// Where packets to the container are counted.
    enum Sink {
        /// Where they can be seen first: in the container's driver, or, when they go past that, at its TC.
        case first
        /// At the container's TC, where every path delivers.
        case tc
        /// In a UDP socket's filter, behind the container's whole stack.
        case socket
    }

    /// What is sent.
    struct Shape {
        var sink = Sink.first
        var flows: UInt32 = 1
        var order = BENCH_ORDER_RANDOM
        /// Who sends at the same time.
        var directions = [BENCH_TO_CONTAINER]
        /// Who begins flows.
        var opener = BENCH_TO_CONTAINER
        /// What the client sends to; of flows that the container begins, the port that it sends from.
        var service: Stage.Service

        /// Whether each packet begins a flow.
        var beginsFlows: Bool { order == BENCH_ORDER_NEW || order == BENCH_ORDER_ANYBODY }
    }

    private let stage: Stage
    private let shape: Shape
    let programs: BenchPrograms
    /// What is to be sent, by `bench_direction`: generators are others' between two turns.
    private var traffic: [bench_traffic] = []
    private var attachments: [Attachment] = []
    private var socket: Int32 = -1

    /// Attaches what counts.
    init(_ stage: Stage, _ shape: Shape) throws(BenchError) {
        if stage.kind == .dockerProxy, shape.opener == BENCH_TO_CLIENT {
            throw .unavailable("the proxy masquerades nothing")
        }
        self.stage = stage
        self.shape = shape
        programs = try BenchPrograms()
        try attachSinks()
        for direction in [BENCH_TO_CONTAINER, BENCH_TO_CLIENT] {
            traffic.append(try traffic(direction, order: shape.order))
        }
    }

    deinit { if socket >= 0 { close(socket) } }

    /// Sends at least 64 packets, of up to `count` flows, and then as many replies, and throws unless all arrive with the right
    /// addresses, ports, TTL and checksums. A burst can be too long for a queue: then it is tried again.
    func verify(count: UInt32 = 1024) throws(BenchError) {
        for direction in conversation {
            try setTraffic(direction, order: shape.beginsFlows ? shape.order : BENCH_ORDER_EACH)
            try expect(direction, checks: true)
            let wanted = packetsToVerify(most: count)
            var arrived: UInt64 = 0
            for _ in 0..<5 where arrived < wanted {
                try prepare([direction])
                try send(direction, frames: Int32(wanted))
                arrived = try awaitArrival(of: UInt64(wanted), direction)
            }
            if arrived < wanted { throw .wrong("of \(wanted) packets, \(arrived) arrived") }
            try expect(direction, checks: false)
            try setTraffic(direction, order: shape.order)
        }
    }

    /// More than 50 generated frames, each in a page of its own, are too much for the receive buffer of the proxy's socket.
    private func packetsToVerify(most count: UInt32) -> UInt32 {
        if stage.kind == .dockerProxy { return 32 }
        return shape.beginsFlows ? count : max(64, min(shape.flows, count))
    }

    /// Sends a packet of each flow that is not open yet, and a reply, so that all are known and established: a flow that has had
    /// no reply is NEW to connection tracking, and goes through all rules each time.
    func openFlows() throws(BenchError) {
        let known = stage.openFlows[shape.service] ?? 0
        if shape.flows <= known { return }
        for direction in conversation {
            try setTraffic(direction, order: BENCH_ORDER_EACH)
            try prepare([direction], generated: UInt64(known))
            // A little more: a few may be lost where one has to wait for another.
            try send(direction, frames: Int32(shape.flows - known + shape.flows / 50))
            try setTraffic(direction, order: shape.order)
        }
        stage.openFlows[shape.service] = shape.flows
    }

    /// Sends for so long, and returns the packets that arrived in a second.
    func rate(seconds: Double) throws(BenchError) -> Double {
        try prepare(shape.directions)
        var threads: [GeneratorThread] = []
        for (cpu, direction) in shape.directions.enumerated() {
            threads.append(
                try GeneratorThread(in: sender(direction), cpu: UInt32(cpu)) { () throws(BenchError) in
                    try self.stage.store.generators.send(direction, count: .max)
                })
        }
        var outcome: Result<Double, BenchError> = .failure(.wrong("no packet arrived"))
        do throws(BenchError) { outcome = .success(try rateOfArrival(seconds: seconds)) } catch {
            outcome = .failure(error)
        }
        for thread in threads { try thread.stop() }
        return try outcome.get()
    }

    private func rateOfArrival(seconds: Double) throws(BenchError) -> Double {
        _ = try arrivals(beyond: 0)
        // Queues fill, caches warm.
        usleep(UInt32(min(0.01, seconds / 5) * 1e6))
        let (first, begin) = (try arrivals(), ContinuousClock.now)
        usleep(UInt32(seconds * 1e6))
        let (last, end) = (try arrivals(beyond: first), ContinuousClock.now)
        return Double(last - first) / (end - begin).seconds
    }

    /// In all directions, once there are more than `count`: a busy machine may run something else for longer than a sample
    /// takes, which the time that is measured shows. An error after five seconds.
    private func arrivals(beyond count: UInt64) throws(BenchError) -> UInt64 {
        let deadline = ContinuousClock.now + .seconds(5)
        while true {
            let sum = try arrivals()
            if sum > count { return sum }
            if ContinuousClock.now > deadline {
                throw .wrong(count == 0 ? "no packet arrived" : "packets ceased to arrive")
            }
            usleep(1_000)
        }
    }

    /// In all directions.
    private func arrivals() throws(BenchError) -> UInt64 {
        var sum: UInt64 = 0
        for direction in shape.directions {
            let count = try programs.count(direction)
            if count.wrong > 0 { throw .wrong("\(count.wrong) packets arrived with wrong addresses, ports or TTL") }
            sum += count.arrived
        }
        return sum
    }

    /// What is sent before anything is measured: replies only where it is known what they look like.
    private var conversation: [bench_direction] {
        if shape.beginsFlows || stage.kind == .dockerProxy { return [shape.opener] }
        return [shape.opener, shape.opener == BENCH_TO_CONTAINER ? BENCH_TO_CLIENT : BENCH_TO_CONTAINER]
    }

    // MARK: Sending

    /// Forgets what has arrived. Generators go on as if they had generated so many.
    private func prepare(_ directions: [bench_direction], generated: UInt64 = 0) throws(BenchError) {
        for direction in [BENCH_TO_CONTAINER, BENCH_TO_CLIENT] { try programs.reset(direction) }
        for direction in directions {
            try stage.store.generators.prepare(traffic[Int(direction.rawValue)], direction, generated: generated)
        }
    }

    private func send(_ direction: bench_direction, frames: Int32) throws(BenchError) {
        try sender(direction).inside { () throws(BenchError) in
            cbench_pin(0)
            try stage.store.generators.send(direction, count: frames)
        }
    }

    private func awaitArrival(of count: UInt64, _ direction: bench_direction) throws(BenchError) -> UInt64 {
        let deadline = ContinuousClock.now + .seconds(1)
        while true {
            let seen = try programs.count(direction)
            if seen.wrong > 0 { throw .wrong("a packet arrived with wrong addresses, ports, TTL or checksums") }
            if seen.arrived >= count || ContinuousClock.now > deadline { return seen.arrived }
            usleep(1_000)
        }
    }

    // MARK: Who sends what, and who counts

    private func sender(_ direction: bench_direction) -> NetworkNamespace {
        (direction == BENCH_TO_CONTAINER ? stage.topology.client : stage.topology.container).namespace
    }

    private func attachSinks() throws(BenchError) {
        let (client, container) = (stage.topology.client.namespace, stage.topology.container.namespace)
        // Neither end's own stack may answer, and the client's veth must take no part in the bulk of replies.
        attachments.append(
            try Attachment(programs.program("bench_sink_client"), to: "eth0", of: client, at: .xdp))
        if shape.sink == .first {
            attachments.append(
                try Attachment(programs.program("bench_sink_container"), to: "eth0", of: container, at: .xdp))
        }
        switch shape.sink {
        case .first, .tc:
            attachments.append(
                try Attachment(
                    programs.program("bench_sink_container_tc"), to: "eth0", of: container, at: .tcx(.ingress)))
        case .socket:
            let port = shape.service.containerPort
            socket = try container.inside { () throws(BenchError) in
                let socket = cbench_filtered_socket(port, programs.socketFilter.number)
                if socket < 0 { throw .wrong("cannot listen on UDP port \(port): \(String(cString: strerror(errno)))") }
                return socket
            }
        }
    }

    private func setTraffic(_ direction: bench_direction, order: bench_order) throws(BenchError) {
        traffic[Int(direction.rawValue)] = try traffic(direction, order: order)
    }

    /// What a generator is told.
    func traffic(_ direction: bench_direction, order: bench_order) throws(BenchError) -> bench_traffic {
        var traffic = bench_traffic()
        traffic.interface = try sender(direction).interfaceIndex(of: "eth0")
        traffic.flows = shape.flows
        traffic.order = order.rawValue
        traffic.first = shape.beginsFlows && order == shape.order ? UInt32.random(in: 0..<1 << 20) : 0
        traffic.first_address = Stage.firstFlowAddress
        let frame = try template(direction)
        withUnsafeMutableBytes(of: &traffic.frame) { $0.copyBytes(from: frame) }
        return traffic
    }

    /// The frame but for what makes a flow, and for checksums, which are zero.
    private func template(_ direction: bench_direction) throws(BenchError) -> [UInt8] {
        let (client, container) = (stage.topology.client, stage.topology.container)
        let toContainer = direction == BENCH_TO_CONTAINER
        let (from, to) = toContainer ? (client, container) : (container, client)
        let anyone = Packet.Endpoint("10.64.0.0:0")
        let server = toContainer ? stage.target(shape.service) : container.endpoint(.v4, shape.service.containerPort)
        var packet = Packet.udp(
            from: toContainer ? anyone : server, to: toContainer ? server : anyone,
            payload: [UInt8](repeating: 0x5a, count: Int(BENCH_FRAME_SIZE) - 42))
        let topology = stage.topology
        let gateway = toContainer ? topology.uplinks[0] : topology.containerInterface
        packet.ethernet?.source = try lab { () throws(TestingError) in try from.namespace.linkAddress(of: "eth0") }
        packet.ethernet?.destination = try lab { () throws(TestingError) in
            stage.kind.isLimit ? try to.namespace.linkAddress(of: "eth0") : try topology.host.linkAddress(of: gateway)
        }
        var bytes = packet.bytes
        for offset in [24, 25, 40, 41] { bytes[offset] = 0 }
        return bytes
    }

    private func expect(_ direction: bench_direction, checks: Bool) throws(BenchError) {
        let topology = stage.topology
        let container = topology.container.endpoint(.v4, shape.service.containerPort)
        let isProxy = stage.kind == .dockerProxy
        var expected = bench_expectation()
        if direction == BENCH_TO_CONTAINER {
            (expected.source, expected.source_mask) =
                isProxy
                ? (Packet.Address("172.20.0.1").word, .max)
                : (Packet.Address("10.64.0.0").word, Packet.Address("255.192.0.0").word)
            (expected.destination, expected.destination_mask) = (container.address.word, .max)
            expected.destination_port = container.port.bigEndian
        } else {
            let server = stage.kind.translates ? stage.target(shape.service) : container
            (expected.source, expected.source_mask) = (server.address.word, .max)
            expected.source_port = server.port.bigEndian
            (expected.destination, expected.destination_mask) =
                (Packet.Address("10.64.0.0").word, Packet.Address("255.192.0.0").word)
        }
        expected.ttl = stage.kind.isLimit || isProxy ? 64 : 63
        // A packet of the proxy's own has a partial checksum here: nobody completes it between two ends of a veth.
        expected.checks = checks && !isProxy ? 1 : 0
        try programs.expect(expected, direction)
    }
}

extension Packet.Address {
    /// An IPv4 address as the kernel keeps it: network order.
    var word: UInt32 { bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) } }
}

extension Duration {
    /// As a number of seconds.
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
