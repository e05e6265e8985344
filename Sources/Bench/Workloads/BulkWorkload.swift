internal import FoundationEssentials
internal import Glibc
internal import Lab

/// Bytes over TCP.
struct BulkWorkload: Workload {
    let name = "bulk"
    let title =
        "throughput of TCP (\(Stage.congestionControl)) by iperf3, and bits moved in a second of CPU time of the whole machine"

    static let service = Stage.Service(port: 5201, containerPort: 5201, transport: .tcp)

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let cases = options.quick ? [(1, false)] : [(1, false), (4, false), (1, true), (4, true)]
        let offloaded = cases.map { streams, isDownload in
            measurement(
                "\(streams) stream\(streams == 1 ? "" : "s") \(isDownload ? "down" : "up")", streams, isDownload)
        }
        let plan = Stage.Plan(layout: .direct, services: [Self.service])
        var wire = plan
        wire.isWire = true
        let asFromWire = [measurement("1 stream up, wire", 1, false)]
        return [WorkloadGroup(plan: plan, measurements: offloaded)]
            + (options.quick ? [] : [WorkloadGroup(plan: wire, measurements: asFromWire, roundsShare: 0.75)])
    }

    func concerns(_ path: PathKind) -> Bool { !path.isBare }

    fileprivate static let turns = 4

    private func measurement(_ name: String, _ streams: Int, _ isDownload: Bool) -> Measurement {
        let metrics = [
            Measurement.Metric(name: "throughput", unit: .gigabitsPerSecond),
            Measurement.Metric(name: "efficiency", unit: .gigabitsPerCPUSecond),
        ]
        let measurement = Measurement(name: name, metrics: metrics, turns: Self.turns, othersTakeOne: true) {
            stage throws(BenchError) in
            try BulkProbe(stage, Self.service, streams: streams, isDownload: isDownload)
        }
        // Down, paths differ by a few percent, and up by more than ten.
        return measurement.inRounds(isDownload ? 1.75 : 1)
    }
}

/// Runs iperf3 to a service of a stage. Each end keeps to a CPU of its own where there are two: how well a path does would
/// depend on where the scheduler happens to put them otherwise.
final class BulkProbe: Probe {
    private let stage: Stage
    private let server: ChildProcess
    private let arguments: [String]
    /// What it moves in a second, about.
    private var bytesPerSecond = 0.0

    init(_ stage: Stage, _ service: Stage.Service, streams: Int, isDownload: Bool)
        throws(BenchError)
    {
        try stage.requireSockets()
        self.stage = stage
        let target = stage.target(service)
        arguments =
            ["iperf3", "--client", target.address.description, "--port", "\(target.port)", "--json"]
            + ["--parallel", "\(streams)"] + (isDownload ? ["--reverse"] : []) + Self.pinned(toCPU: 0)
        let container = stage.topology.container.namespace
        server = try lab { () throws(TestingError) in
            let server = try container.spawn(
                ["iperf3", "--server", "--port", "\(service.containerPort)"] + Self.pinned(toCPU: 1))
            try container.waitUntil(listening: service.containerPort, .tcp, by: server)
            return server
        }
        let first = try run(bytes: Self.firstBytes)
        bytesPerSecond = first.bits / 8 / first.seconds
    }

    /// Moved once to see how fast a path is: a quarter of a second for a slow one.
    private static let firstBytes: UInt64 = 150_000_000

    private static func pinned(toCPU cpu: Int) -> [String] {
        sysconf(Int32(_SC_NPROCESSORS_ONLN)) > 1 ? ["--affinity", "\(cpu)"] : []
    }

    /// Throughput and bits of a CPU-second. As long as samples that are not cut: the kernel tells CPU time in hundredths. iperf3
    /// itself counts time in whole seconds, and paths would take turns a fifth as often.
    func sample(seconds: Double) throws(BenchError) -> [Double] {
        let result = try run(bytes: UInt64(seconds * Double(BulkWorkload.turns) * bytesPerSecond))
        guard result.busySeconds > 0 else { throw .wrong("the kernel says that no CPU was busy") }
        return [result.bits / result.seconds / 1e9, result.bits / result.busySeconds / 1e9]
    }

    private struct Outcome {
        var bits: Double
        var seconds: Double
        var busySeconds: Double
    }

    private func run(bytes: UInt64) throws(BenchError) -> Outcome {
        let meter = CPUMeter()
        let result = try lab { () throws(TestingError) in
            try stage.topology.client.namespace.command(arguments + ["--bytes", "\(bytes)"], check: false)
        }
        let spent = meter.busySeconds()
        guard let summary = try? JSONDecoder().decode(Summary.self, from: Data(result.outputBytes)) else {
            throw .wrong("iperf3 said: \(result.errors)\(result.output)")
        }
        if let error = summary.error { throw .wrong("iperf3: \(error)") }
        guard let received = summary.end.sum_received else { throw .wrong("iperf3 has no result") }
        for found in [summary.end.sender_tcp_congestion, summary.end.receiver_tcp_congestion] {
            guard let found, found != Stage.congestionControl else { continue }
            throw .wrong("TCP's congestion control is \(found), not \(Stage.congestionControl)")
        }
        if received.bytes == 0 { throw .wrong("no byte arrived") }
        return Outcome(bits: received.bytes * 8, seconds: received.seconds, busySeconds: spent)
    }

    /// What we want of iperf3's JSON, by its own names.
    private struct Summary: Decodable {
        struct Sum: Decodable {
            var bytes: Double
            var seconds: Double
        }
        struct End: Decodable {
            var sum_received: Sum?
            /// Old versions do not tell.
            var sender_tcp_congestion: String?
            var receiver_tcp_congestion: String?
        }
        var end: End
        var error: String?
    }
}
