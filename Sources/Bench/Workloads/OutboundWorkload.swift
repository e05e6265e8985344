internal import CBench
internal import Lab

/// Connections that the container begins, masqueraded.
struct OutboundWorkload: Workload {
    let name = "outbound"
    let title =
        "64-byte UDP packets in a second of flows that the container begins, under the host's address: out, replies, and new flows"

    let isAboutTables = true

    /// The port that the container sends from to all, and keeps on the outside: one of a service, as who sends to everybody from
    /// one port is one (a name server, a peer); the others have those of clients.
    private static let service = Stage.Service(port: 20_000, containerPort: 20_000, transport: .udp)

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let (out, replies) = (shape([BENCH_TO_CLIENT]), shape([BENCH_TO_CONTAINER]))
        let known = [measurement("out, 1 flow", out), measurement("replies, 1 flow", replies).inRounds(2)]
        let many = measurement("replies, 64 k flows", shape([BENCH_TO_CONTAINER], flows: 65_536))
        // To one flow it is all the same how large its table is; many are in one in proportion.
        let new = NewFlowWorkload.measurement("new", shape([BENCH_TO_CLIENT], order: BENCH_ORDER_NEW))
        if options.quick {
            return [WorkloadGroup(plan: plan(flows: 1_000_000), measurements: known + [new])]
        }
        return [
            WorkloadGroup(plan: plan(flows: 100_000), measurements: known + [many], roundsShare: 0.5),
            WorkloadGroup(plan: plan(flows: 1_000_000), measurements: [new], roundsShare: 0.5),
        ]
    }

    private func plan(flows: Int) -> Stage.Plan {
        Stage.Plan(layout: .direct, flows: flows, services: [], takesFrames: true, isMasqueraded: true)
    }

    private func shape(_ directions: [bench_direction], flows: UInt32 = 1, order: bench_order = BENCH_ORDER_RANDOM)
        -> PacketStream.Shape
    {
        PacketStream.Shape(
            flows: flows, order: order, directions: directions, opener: BENCH_TO_CLIENT, service: Self.service)
    }

    private func measurement(_ name: String, _ shape: PacketStream.Shape) -> Measurement {
        PacketRateWorkload.measurement(name, shape)
    }
}
