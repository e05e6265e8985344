internal import CBench
internal import Lab

/// 64-byte UDP packets in a second.
struct PacketRateWorkload: Workload {
    let name = "pps"
    let title = "64-byte UDP packets in a second that arrive at the container, as fast as one core generates them"

    static let service = Stage.Service(port: 8080, containerPort: 80, transport: .udp)

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        var direct = [
            measurement("direct, 1 flow", PacketStream.Shape(service: Self.service)),
            measurement("direct, 1 flow, stack", PacketStream.Shape(sink: .socket, service: Self.service)),
            measurement("direct, both ways", PacketStream.Shape(bothDirections: true, service: Self.service)),
        ]
        if !options.quick { direct.append(measurement("direct, 64 flows", shape(64))) }
        var bridge = [measurement("bridge, 1 flow", PacketStream.Shape(service: Self.service))]
        if !options.quick {
            bridge.append(
                measurement("bridge, 1 flow, stack", PacketStream.Shape(sink: .socket, service: Self.service)))
        }
        let many = options.quick ? [shape(65_536)] : [shape(65_536), shape(1_000_000)]
        return [
            WorkloadGroup(plan: plan(.direct), measurements: direct),
            WorkloadGroup(plan: plan(.bridge), measurements: bridge),
            WorkloadGroup(
                plan: plan(.direct, flows: options.quick ? 65_536 : 1_000_000),
                measurements: many.map { measurement("direct, \($0.flows >= 1_000_000 ? "1 M" : "64 k") flows", $0) }),
        ]
    }

    private func shape(_ flows: UInt32) -> PacketStream.Shape {
        PacketStream.Shape(flows: flows, service: Self.service)
    }

    private func plan(_ layout: Topology.Layout, flows: Int = 10_000) -> Stage.Plan {
        Stage.Plan(layout: layout, flows: flows, services: [Self.service], takesFrames: true)
    }

    private func measurement(_ name: String, _ shape: PacketStream.Shape) -> Measurement {
        Measurement(name: name, metrics: [.init(name: "packets", unit: .packetsPerSecond)]) {
            stage throws(BenchError) in
            try PacketRateProbe(stage, shape)
        }
    }
}

/// Counts packets of known flows.
final class PacketRateProbe: Probe {
    private let stream: PacketStream

    init(_ stage: Stage, _ shape: PacketStream.Shape) throws(BenchError) {
        if stage.kind == .dockerProxy {
            if shape.bothDirections { throw .unavailable("only the proxy knows the ports that replies go to") }
            if shape.flows > 64 { throw .unavailable("the proxy has a socket for each flow") }
        }
        stream = try PacketStream(stage, shape)
        try stream.verify()
        if shape.flows > 1 { try stream.openFlows() }
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] { [try stream.rate(seconds: seconds)] }
}
