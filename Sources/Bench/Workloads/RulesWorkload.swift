internal import CBench
internal import FastNAT
internal import Lab

/// What becomes of it all with many published ports.
struct RulesWorkload: Workload {
    let name = "rules"
    let title =
        "with so many published ports: packets and new flows to the last of them, connections, and the time to add one more"

    private static let firstPort: UInt16 = 20_000
    /// The number of ports that new flows are judged with (`Target`).
    private static let judged = 1_000

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        if options.quick {
            return [datagrams(1, options), datagrams(1_000, options), connections(1_000, options)]
        }
        return [1, 10, 100, 1_000, 10_000].map { datagrams($0, options) }
            + [1, 10_000].map { connections($0, options) }
    }

    private func label(_ count: Int) -> String { count == 1 ? "1 port" : "\(count) ports" }

    private func datagrams(_ count: Int, _ options: BenchOptions) -> WorkloadGroup {
        let (label, ports) = (label(count), services(count, .udp))
        let last = ports[count - 1]
        let plan = NewFlowWorkload.plan(.direct, ports)
        let packets = packets(label, last)
        let newFlows = NewFlowWorkload.measurement(label, PacketStream.Shape(order: BENCH_ORDER_NEW, service: last))
        // Of 10 and of 100 ports, targets ask for what is kept alone.
        let share = count == 10 || count == 100 ? 0.5 : 1
        let other = [
            // Where they are judged, to the percent.
            publishing(newFlows, count).inRounds(count == Self.judged ? 2 : 1),
            adding(label, "adding one, command") { stage throws(BenchError) in try CommandProbe(stage) },
            adding(label, "adding one, in a program") { stage throws(BenchError) in try LibraryProbe(stage) },
        ].map { $0.inRounds(share) }
        let ofGroup = count == Self.judged ? 1 : 0.5
        // Asked to the percent, of the worst of four.
        let kept = kept(packets, with: count, plan, options).map { $0.inRounds(2 / ofGroup) }
        return WorkloadGroup(
            plan: plan, measurements: [publishing(packets, count).inRounds(share)] + kept + other, roundsShare: ofGroup)
    }

    /// What publishes nothing does the same with any number of ports: it is measured where others are compared with it.
    private func publishing(_ measurement: Measurement, _ count: Int) -> Measurement {
        if count == 1 || count == Self.judged { return measurement }
        var measurement = measurement
        let begin = measurement.begin
        measurement.begin = { stage throws(BenchError) in
            if !stage.kind.translates { throw .unavailable("nothing is published") }
            return try begin(stage)
        }
        return measurement
    }

    private func services(_ count: Int, _ transport: Lab.TransportProtocol) -> [Stage.Service] {
        (0..<UInt16(count)).map {
            Stage.Service(port: Self.firstPort + $0, containerPort: Self.firstPort + $0, transport: transport)
        }
    }

    private func packets(_ label: String, _ service: Stage.Service) -> Measurement {
        let shape = PacketStream.Shape(flows: 1024, service: service)
        return Measurement(
            name: label, metrics: [.init(name: "packets", unit: .packetsPerSecond)], turns: 4
        ) { stage throws(BenchError) in
            if stage.kind == .dockerProxy {
                throw .unavailable("the proxy is a process for each port, a socket for each flow")
            }
            return try PacketRateProbe(stage, shape)
        }
    }

    private func adding(_ label: String, _ name: String, _ begin: @escaping (Stage) throws(BenchError) -> any Probe)
        -> Measurement
    {
        Measurement(name: label, metrics: [.init(name: name, unit: .milliseconds)], begin: begin)
    }

    private func connections(_ count: Int, _ options: BenchOptions) -> WorkloadGroup {
        let services = services(count, .tcp)
        let plan = Stage.Plan(layout: .direct, services: services)
        let measurement = Measurement(
            name: label(count), metrics: [.init(name: "connections", unit: .connectionsPerSecond)],
            turns: ConnectionRateWorkload.turns
        ) { stage throws(BenchError) in
            try ConnectionRateProbe(stage, services[count - 1])
        }
        // First: the other of the two has no former connections that wait, either.
        return WorkloadGroup(
            plan: plan,
            measurements: kept(measurement, with: count, plan, options) + [measurement.inRounds(0.5)])
    }

    /// What is left of a figure with so many ports, of what it is with one. Groups are measured minutes apart, in which the
    /// machine changes more than this does: so a path with the last of the ports alone stands beside the one with all.
    private func kept(_ measurement: Measurement, with count: Int, _ plan: Stage.Plan, _ options: BenchOptions)
        -> [Measurement]
    {
        guard count > 1, !options.quick, let last = plan.services.last else { return [] }
        var single = plan
        single.services = [last]
        var kept = measurement
        kept.turns = 1
        kept.metrics = measurement.metrics.map { .init(name: "\($0.name) kept", unit: .ofOnePort) }
        kept.begin = { [single] stage throws(BenchError) in
            guard stage.kind.isFastnat || stage.kind.isOther else { throw .unavailable("asked of fastnat alone") }
            let many = try measurement.begin(stage)
            let stage = try stage.store.additional(stage.kind, single)
            return KeptProbe(many, try measurement.begin(stage), on: stage)
        }
        return [kept]
    }
}

/// Measures a path with many ports and the same with one in turn: the median of what each two turns are of each other.
private final class KeptProbe: Probe {
    private let many: any Probe
    private let one: any Probe
    /// Of the one; goes back with this object.
    private let stage: Stage
    /// In a sample, of each.
    private static let turns = 8

    init(_ many: any Probe, _ one: any Probe, on stage: Stage) {
        self.many = many
        self.one = one
        self.stage = stage
    }

    deinit { stage.store.giveBack(stage) }

    func sample(seconds: Double) throws(BenchError) -> [Double] {
        stage.isSound = false
        var quotients: [Double] = []
        for _ in 0..<Self.turns {
            let figure = try many.sample(seconds: seconds / Double(Self.turns)).reduce(0, max)
            let figureOfOne = try one.sample(seconds: seconds / Double(Self.turns)).reduce(0, max)
            if figureOfOne == 0 { throw .wrong("nothing arrived with one port") }
            quotients.append(figure / figureOfOne)
        }
        stage.isSound = true
        return [Statistics(quotients)?.median ?? 0]
    }
}

/// Times what a person or a script does to publish a port: a command, its start included.
private final class CommandProbe: Probe {
    private let stage: Stage
    private var port: UInt16 = 60_000

    init(_ stage: Stage) throws(BenchError) {
        if !stage.kind.translates { throw .unavailable("nothing is published") }
        if stage.kind == .dockerProxy { throw .unavailable("the proxy is a process for each port") }
        self.stage = stage
        _ = try sample(seconds: 0)
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] {
        port += 1
        let begin = ContinuousClock.now
        try lab { () throws(TestingError) in
            try stage.path.publish(port, to: stage.topology.container.endpoint(.v4, port), .udp)
        }
        return [(ContinuousClock.now - begin).seconds * 1e3]
    }
}

/// Times what a program that keeps fastnat's library open does to publish a port.
private final class LibraryProbe: Probe {
    private let stage: Stage
    private var port: UInt16 = 62_000

    init(_ stage: Stage) throws(BenchError) {
        guard stage.kind.isFastnat else { throw .unavailable("there is no such library") }
        self.stage = stage
        _ = try sample(seconds: 0)
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] {
        port += 1
        let line = "\(port)/udp \(stage.topology.container.endpoint(.v4, port))"
        let elapsed = try stage.topology.host.inside { () throws(BenchError) in
            do {
                let mappings = try MappingFile.parse(line)
                let datapath = try LoadedDatapath(for: .change)
                let begin = ContinuousClock.now
                try datapath.publish(mappings)
                return ContinuousClock.now - begin
            } catch {
                throw .wrong("\(error)")
            }
        }
        return [elapsed.seconds * 1e3]
    }
}
