internal import CBench
internal import Glibc
internal import Lab

/// What CPUs have to do.
struct ProcessorWorkload: Workload {
    let name = "cpu"
    let title =
        "time that the program on the uplink takes for a packet of a known flow, by test run; and how busy the machine's CPUs are "
        + "together with \(Self.load / 1000) k UDP packets a second, client and container included"

    /// Packets in a second of the fixed load.
    fileprivate static let load: UInt32 = 100_000

    let isAboutTables = true

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let few = program(options.quick ? [(1, "1 flow")] : [(1, "1 flow"), (131_072, "128 k flows")])
        if options.quick { return [few] }
        // The client completes checksums itself: every path can take its packets then.
        let wire = Stage.Plan(
            layout: .direct, services: [PacketRateWorkload.service], takesFrames: true, isWire: true)
        let use = Measurement(
            name: "\(Self.load / 1000) k packets/s", metrics: [.init(name: "CPU use", unit: .percentOfCPU)]
        ) { stage throws(BenchError) in try FixedLoadProbe(stage) }
        return [
            few, program([(1_000_000, "1 M flows")]), WorkloadGroup(plan: wire, measurements: [use], roundsShare: 0.5),
        ]
    }

    private func program(_ counts: [(UInt32, String)]) -> WorkloadGroup {
        let most = counts.map { Int($0.0) }.reduce(100_000, max)
        let plan = Stage.Plan(layout: .direct, flows: most, services: [PacketRateWorkload.service], takesFrames: true)
        let programs = counts.map { flows, label in
            Measurement(name: label, metrics: [.init(name: "program", unit: .nanoseconds)]) {
                stage throws(BenchError) in
                try ProgramTimeProbe(stage, flows: flows)
            }
        }
        return WorkloadGroup(plan: plan, measurements: programs, roundsShare: 0.5)
    }
}

private final class ProgramTimeProbe: Probe {
    private let stream: PacketStream
    private let drive: ProgramDrive

    init(_ stage: Stage, flows: UInt32) throws(BenchError) {
        guard stage.path is FastnatPath || stage.path is RedirectPath else { throw .unavailable("no BPF programs") }
        if flows > 1, stage.kind.isLimit, !stage.kind.isBare { throw .unavailable("it knows no flows") }
        stream = try PacketStream(stage, PacketStream.Shape(flows: flows, service: PacketRateWorkload.service))
        try stream.verify()
        if flows > 1 { try stream.openFlows() }
        drive = try ProgramDrive(stage, stream, flows: flows)
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] { [try drive.time(seconds: seconds)] }
}

/// Has a socket of the client send at a fixed rate to one of the container, and looks at how busy the machine is.
private final class FixedLoadProbe: Probe {
    private let stage: Stage
    private let stream: PacketStream
    private let source: Packet.Address = "10.64.0.1"

    init(_ stage: Stage) throws(BenchError) {
        self.stage = stage
        stream = try PacketStream(stage, PacketStream.Shape(sink: .socket, service: PacketRateWorkload.service))
        try stream.verify()
        try lab { () throws(TestingError) in
            // The sink takes packets from where generated flows come from.
            try stage.topology.client.namespace.ip(["address replace \(source)/32 dev eth0"])
        }
    }

    /// The kernel's figures have a resolution of 10 ms, so a sample is at least half a second.
    func sample(seconds: Double) throws(BenchError) -> [Double] {
        try requireIdleness()
        try stream.programs.reset(BENCH_TO_CONTAINER)
        let target = stage.target(PacketRateWorkload.service)
        let meter = CPUMeter()
        let outcome = try stage.topology.client.namespace.inside { () throws(BenchError) in
            var outcome = cbench_outcome()
            let result = cbench_datagrams(
                source.word, target.address.word, target.port, ProcessorWorkload.load, UInt64(max(0.5, seconds) * 1e9),
                &outcome)
            if result != 0 { throw .wrong("sending to \(target): \(errnoText())") }
            return outcome
        }
        let busy = meter.busySeconds() / (Double(outcome.nanoseconds) / 1e9)
        let seen = try stream.programs.count(BENCH_TO_CONTAINER)
        if seen.wrong > 0 || Double(seen.arrived) < Double(outcome.completed) * 0.99 {
            throw .wrong("of \(outcome.completed) packets, \(seen.arrived) arrived as they should")
        }
        return [busy * 100]
    }

    /// What else goes on would be taken for the path's.
    private func requireIdleness() throws(BenchError) {
        let (meter, milliseconds) = (CPUMeter(), 200.0)
        usleep(UInt32(milliseconds * 1e3))
        let use = meter.busySeconds() / milliseconds * 1e5
        if use > 20 { throw .unavailable("something else keeps this machine busy: \(fixed(use, 0)) % of a CPU") }
    }
}
