internal import CBench
internal import Lab

/// How long a request and its response take.
struct ResponseTimeWorkload: Workload {
    let name = "rr"
    let title = "time of 64 bytes there and back over one connection, both ends polling"

    let isAboutTables = true

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let services = TransportProtocol.allCases.map { Stage.Service(port: 8080, containerPort: 80, transport: $0) }
        let measurements = services.map { service in
            Measurement(
                name: "direct, \(service.transport.rawValue.uppercased())",
                metrics: ["p50", "p99", "p99.9"].map {
                    Measurement.Metric(name: $0, unit: .microseconds, isTail: $0 == "p99.9")
                },
                turns: 4, repetitions: 1
            ) { stage throws(BenchError) in try ResponseTimeProbe(stage, service) }
        }
        return [WorkloadGroup(plan: Stage.Plan(layout: .direct, services: services), measurements: measurements)]
    }
}

private final class ResponseTimeProbe: Probe {
    private let stage: Stage
    private let service: Stage.Service
    private let target: Packet.Endpoint

    init(_ stage: Stage, _ service: Stage.Service) throws(BenchError) {
        try stage.requireSockets()
        self.stage = stage
        self.service = service
        target = stage.target(service)
        _ = try sample(seconds: 0.02)
    }

    /// The server lives as long as a sample: it takes a whole core.
    func sample(seconds: Double) throws(BenchError) -> [Double] {
        let server = try EchoServer(
            in: stage.topology.container.namespace, port: service.containerPort, spins: true)
        defer { withExtendedLifetime(server) {} }
        let outcome = try stage.topology.client.namespace.inside { () throws(BenchError) in
            var outcome = cbench_outcome()
            let result = cbench_exchanges(
                target.address.word, target.port, service.transport == .udp, UInt64(seconds * 1e9), &outcome)
            if result != 0 { throw .wrong("asking \(target): \(errnoText())") }
            return outcome
        }
        if outcome.failed > 0 { throw .wrong("\(outcome.failed) answers failed to come, or were wrong") }
        return [outcome.p50, outcome.p99, outcome.p999].map { Double($0) / 1e3 }
    }
}
