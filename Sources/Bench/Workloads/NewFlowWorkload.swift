internal import CBench
internal import Lab

/// Packets each of which begins a flow.
struct NewFlowWorkload: Workload {
    let name = "newflow"
    let title = "new UDP flows in a second: every packet begins one"

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let service = PacketRateWorkload.service
        return Topology.Layout.allCases.filter { $0 == .direct || !options.quick }.map { layout in
            WorkloadGroup(
                plan: Self.plan(layout, [service]), measurements: [Self.measurement(layout.rawValue, service, options)])
        }
    }

    static func plan(_ layout: Topology.Layout, _ services: [Stage.Service]) -> Stage.Plan {
        Stage.Plan(layout: layout, flows: 1_000_000, services: services, takesFrames: true)
    }

    static func measurement(_ name: String, _ service: Stage.Service, _ options: BenchOptions) -> Measurement {
        Measurement(name: name, metrics: [.init(name: "new flows", unit: .flowsPerSecond)]) {
            stage throws(BenchError) in
            try NewFlowProbe(stage, service)
        }
    }
}

private final class NewFlowProbe: Probe {
    private let stage: Stage
    private let stream: PacketStream

    init(_ stage: Stage, _ service: Stage.Service) throws(BenchError) {
        if stage.kind == .dockerProxy { throw .unavailable("the proxy has a socket for each flow") }
        self.stage = stage
        stream = try PacketStream(stage, PacketStream.Shape(order: BENCH_ORDER_NEW, service: service))
        try stream.verify(count: 64)
    }

    /// Begins with no flows, so that no round meets fuller tables than another.
    func sample(seconds: Double) throws(BenchError) -> [Double] {
        try stage.forgetFlows()
        return [try stream.rate(seconds: seconds)]
    }
}
