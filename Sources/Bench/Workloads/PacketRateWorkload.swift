internal import CBench
internal import Lab

/// 64-byte UDP packets in a second.
struct PacketRateWorkload: Workload {
    let name = "pps"
    let title = "64-byte UDP packets in a second that arrive at the container, as fast as one core generates them"

    static let service = Stage.Service(port: 8080, containerPort: 80, transport: .udp)

    let isAboutTables = true

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let service = Self.service
        var direct = [
            Self.measurement("direct, 1 flow", PacketStream.Shape(service: service)),
            Self.measurement("direct, 1 flow, TC sink", PacketStream.Shape(sink: .tc, service: service)),
        ]
        let bridge = [
            Self.measurement("bridge, 1 flow", PacketStream.Shape(service: service)),
            Self.measurement("bridge, 1 flow, TC sink", PacketStream.Shape(sink: .tc, service: service)),
        ]
        var many = [several("64 k flows", 65_536)]
        var million: [Measurement] = []
        if !options.quick {
            let both = [BENCH_TO_CONTAINER, BENCH_TO_CLIENT]
            let unjudged = [
                Self.measurement("direct, 1 flow, stack", PacketStream.Shape(sink: .socket, service: service)),
                Self.measurement("direct, both ways", PacketStream.Shape(directions: both, service: service)),
                several("64 flows", 64),
            ]
            direct += unjudged.map { $0.inRounds(0.25) }
            many += [
                several("64 k flows, TC sink", 65_536, .tc), several("100 k flows", 100_000).inRounds(0.25),
            ]
            million = [several("1 M flows", 1_000_000), several("1 M flows, TC sink", 1_000_000, .tc)]
        }
        // Tables in proportion: in one that is nearly empty, each packet meets a page of its own.
        let groups = [
            WorkloadGroup(plan: plan(.direct), measurements: direct + many),
            WorkloadGroup(plan: plan(.bridge), measurements: bridge),
            WorkloadGroup(plan: plan(.direct, flows: 1_000_000), measurements: million),
        ]
        return groups.filter { !$0.measurements.isEmpty }
    }

    private func several(_ name: String, _ flows: UInt32, _ sink: PacketStream.Sink = .first) -> Measurement {
        Self.measurement("direct, \(name)", PacketStream.Shape(sink: sink, flows: flows, service: Self.service))
    }

    private func plan(_ layout: Topology.Layout, flows: Int = 100_000) -> Stage.Plan {
        Stage.Plan(layout: layout, flows: flows, services: [Self.service], takesFrames: true)
    }

    static func measurement(_ name: String, _ shape: PacketStream.Shape) -> Measurement {
        // Of many flows, each is to have several packets in a sample.
        let turns = shape.flows > 64 ? 1 : 8
        return Measurement(
            name: name, metrics: [.init(name: "packets", unit: .packetsPerSecond)], turns: turns
        ) { stage throws(BenchError) in try PacketRateProbe(stage, shape) }
    }
}

/// Counts packets of known flows.
final class PacketRateProbe: Probe {
    private let stream: PacketStream

    init(_ stage: Stage, _ shape: PacketStream.Shape) throws(BenchError) {
        if stage.kind == .dockerProxy {
            if shape.directions.count > 1 { throw .unavailable("only the proxy knows the ports that replies go to") }
            if shape.flows > 64 { throw .unavailable("the proxy has a socket for each flow") }
        }
        stream = try PacketStream(stage, shape)
        try stream.verify()
        if shape.flows > 1 { try stream.openFlows() }
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] { [try stream.rate(seconds: seconds)] }
}
