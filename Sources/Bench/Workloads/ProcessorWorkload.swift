internal import BPF
internal import CBench
internal import FoundationEssentials
internal import Lab

/// What CPUs have to do.
struct ProcessorWorkload: Workload {
    let name = "cpu"
    let title =
        "time that BPF programs take for a packet of a known flow, a look at the clock included (compare the limits)"

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let counts: [(UInt32, String)] =
            options.quick ? [(1, "1 flow")] : [(1, "1 flow"), (131_072, "128 k flows"), (1_000_000, "1 M flows")]
        let most = Int(counts.map(\.0).max() ?? 1)
        let programs = counts.map { flows, label in
            let shape = PacketStream.Shape(flows: flows, service: PacketRateWorkload.service)
            return Measurement(name: label, metrics: [.init(name: "programs", unit: .nanoseconds)]) {
                stage throws(BenchError) in
                try ProgramTimeProbe(stage, shape)
            }
        }
        let plan = Stage.Plan(layout: .direct, flows: most, services: [PacketRateWorkload.service], takesFrames: true)
        return [WorkloadGroup(plan: plan, measurements: programs)]
    }
}

private final class ProgramTimeProbe: Probe {
    private let stream: PacketStream
    private let stage: Stage

    init(_ stage: Stage, _ shape: PacketStream.Shape) throws(BenchError) {
        guard stage.path is FastnatPath || stage.path is RedirectPath else { throw .unavailable("no BPF programs") }
        self.stage = stage
        stream = try PacketStream(stage, shape)
        try stream.verify()
        if shape.flows > 1 { try stream.openFlows() }
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] {
        let statistics = try enable()
        let before = try total()
        _ = try stream.rate(seconds: seconds)
        let after = try total()
        _ = statistics.number
        // What XDP passes runs through TC as well: the packet's time is in both, its run is counted once.
        let runs = zip(after.runs, before.runs).map { $0 - $1 }.max() ?? 0
        if runs == 0 { throw .wrong("the programs did not run") }
        return [Double(after.nanoseconds - before.nanoseconds) / Double(runs)]
    }

    private func enable() throws(BenchError) -> Descriptor {
        do throws(BPFError) { return try Descriptor.enableRunStatistics() } catch { throw .bpf(error) }
    }

    /// Over the programs on the uplink: runs of each, and the time of all.
    private func total() throws(BenchError) -> (runs: [UInt64], nanoseconds: UInt64) {
        let each: [RunStatistics]
        if let path = stage.path as? RedirectPath {
            each = try path.attached.prefix(1).map { attachment throws(BenchError) in
                try bpf { () throws(BPFError) in try attachment.link.program().runStatistics() }
            }
        } else if let path = stage.path as? FastnatPath {
            let directory = try lab { () throws(TestingError) in try path.pins } + "/links"
            let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
            each = try names.filter { $0.hasPrefix("uplink-") && !$0.contains("-mode-") && !$0.hasSuffix("clsact") }
                .sorted().map {
                    name throws(BenchError) in
                    try bpf { () throws(BPFError) in
                        try BPFLink(Descriptor(pinnedAt: "\(directory)/\(name)")).program().runStatistics()
                    }
                }
        } else {
            each = []
        }
        return (each.map(\.runs), each.reduce(0) { $0 + $1.nanoseconds })
    }
}
