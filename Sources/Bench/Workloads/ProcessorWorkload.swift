internal import CBench
internal import Lab

/// What CPUs have to do.
struct ProcessorWorkload: Workload {
    let name = "cpu"
    let title =
        "time that the program on the uplink takes for a packet of a known flow, by test run"

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let counts: [(UInt32, String)] =
            options.quick ? [(1, "1 flow")] : [(1, "1 flow"), (131_072, "128 k flows"), (1_000_000, "1 M flows")]
        let most = Int(counts.map(\.0).max() ?? 1)
        let programs = counts.map { flows, label in
            Measurement(name: label, metrics: [.init(name: "program", unit: .nanoseconds)]) {
                stage throws(BenchError) in
                try ProgramTimeProbe(stage, flows: flows)
            }
        }
        let plan = Stage.Plan(layout: .direct, flows: most, services: [PacketRateWorkload.service], takesFrames: true)
        return [WorkloadGroup(plan: plan, measurements: programs, roundsDivisor: 2)]
    }
}

private final class ProgramTimeProbe: Probe {
    private let stream: PacketStream
    private let drive: ProgramDrive

    init(_ stage: Stage, flows: UInt32) throws(BenchError) {
        guard stage.path is FastnatPath || stage.path is RedirectPath else { throw .unavailable("no BPF programs") }
        stream = try PacketStream(stage, PacketStream.Shape(flows: flows, service: PacketRateWorkload.service))
        try stream.verify()
        if flows > 1 { try stream.openFlows() }
        drive = try ProgramDrive(stage, stream, flows: flows)
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] { [try drive.time(seconds: seconds)] }
}
