internal import CBench
internal import Lab

/// Packets each of which begins a flow.
struct NewFlowWorkload: Workload {
    let name = "newflow"
    let title = "new UDP flows in a second: every packet begins one"

    let isAboutTables = true

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let shape = PacketStream.Shape(order: BENCH_ORDER_NEW, service: PacketRateWorkload.service)
        var counted = shape
        counted.sink = .tc
        var scattered = shape
        scattered.order = BENCH_ORDER_ANYBODY
        let direct = [
            Self.measurement("direct", shape), Self.measurement("direct, TC sink", counted).inRounds(2),
            Self.measurement("direct, from anybody", scattered).inRounds(0.5),
        ]
        let groups = [
            WorkloadGroup(plan: Self.plan(.direct, [shape.service]), measurements: direct),
            WorkloadGroup(
                plan: Self.plan(.bridge, [shape.service]), measurements: [Self.measurement("bridge", shape)],
                roundsShare: 0.5),
        ]
        return options.quick ? Array(groups.prefix(1)) : groups
    }

    static func plan(_ layout: Topology.Layout, _ services: [Stage.Service]) -> Stage.Plan {
        Stage.Plan(layout: layout, flows: 1_000_000, services: services, takesFrames: true)
    }

    static func measurement(_ name: String, _ shape: PacketStream.Shape) -> Measurement {
        Measurement(name: name, metrics: [.init(name: "new flows", unit: .flowsPerSecond)]) {
            stage throws(BenchError) in
            try NewFlowProbe(stage, shape)
        }
    }
}

private final class NewFlowProbe: Probe {
    private let stage: Stage
    private let stream: PacketStream

    init(_ stage: Stage, _ shape: PacketStream.Shape) throws(BenchError) {
        if stage.kind == .dockerProxy { throw .unavailable("the proxy has a socket for each flow") }
        self.stage = stage
        stream = try PacketStream(stage, shape)
        try stream.verify(count: 64)
    }

    /// Begins with no flows, so that no round meets fuller tables than another.
    func sample(seconds: Double) throws(BenchError) -> [Double] {
        try stage.forgetFlows()
        return [try stream.rate(seconds: seconds)]
    }
}
