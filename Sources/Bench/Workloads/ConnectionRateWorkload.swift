internal import CBench
internal import Lab

/// TCP connections in a second.
struct ConnectionRateWorkload: Workload {
    let name = "cps"
    let title = "TCP connections in a second: connect, 64 bytes there and back, close; 32 at once"

    static let service = Stage.Service(port: 8080, containerPort: 80, transport: .tcp)

    let isAboutTables = true

    /// Of a sample: connections take a while to get going.
    static let turns = 4
    /// Rounds are quick, and differ more than those of others.
    private static let roundsShare = 2.5

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        (options.quick ? [.direct] : Topology.Layout.allCases).map { layout in
            WorkloadGroup(
                plan: Stage.Plan(layout: layout, services: [Self.service]),
                measurements: [
                    Measurement(
                        name: layout.rawValue, metrics: [.init(name: "connections", unit: .connectionsPerSecond)],
                        turns: Self.turns
                    ) {
                        stage throws(BenchError) in
                        try ConnectionRateProbe(stage, Self.service)
                    }
                ], roundsShare: Self.roundsShare)
        }
    }
}

/// Counts connections to a service of a stage.
final class ConnectionRateProbe: Probe {
    /// Each end keeps to a CPU of its own where there are two, as ends have that are two machines.
    private static let clientCPU: UInt32 = 0, serverCPU: UInt32 = 1

    private let stage: Stage
    private let server: EchoServer
    private let target: Packet.Endpoint

    init(_ stage: Stage, _ service: Stage.Service) throws(BenchError) {
        try stage.requireSockets()
        self.stage = stage
        target = stage.target(service)
        server = try EchoServer(
            in: stage.topology.container.namespace, port: service.containerPort, closes: true,
            cpu: Int32(Self.serverCPU))
        _ = try sample(seconds: 0.05)
    }

    /// A path that is so slow that no connection came about gets ten times longer for it.
    func sample(seconds: Double) throws(BenchError) -> [Double] {
        var outcome = try connect(seconds: seconds)
        if outcome.completed == 0 { outcome = try connect(seconds: seconds * 10) }
        if outcome.failed > 0 {
            throw .wrong("\(outcome.failed) of \(outcome.failed + outcome.completed) connections failed")
        }
        if outcome.completed == 0 { throw .wrong("no connection to \(target) came about") }
        return [Double(outcome.completed) * 1e9 / Double(outcome.nanoseconds)]
    }

    private func connect(seconds: Double) throws(BenchError) -> cbench_outcome {
        try stage.topology.client.namespace.inside { () throws(BenchError) in
            var outcome = cbench_outcome()
            let result = cbench_connections(
                target.address.word, target.port, 32, Self.clientCPU, UInt64(seconds * 1e9), &outcome)
            if result != 0 { throw .wrong("connecting to \(target): \(errnoText())") }
            return outcome
        }
    }
}
