internal import BPF
internal import CBench
internal import FastNAT
internal import Glibc
internal import Lab

/// What a flow costs in memory.
struct FlowMemoryWorkload: Workload {
    let name = "flows"
    let title =
        "kernel memory of a flow, both directions: for connection tracking, what slabs grow by while flows are opened, and 8 bytes "
        + "of its hash table for each direction, also with flows' packets counted (net.netfilter.nf_conntrack_acct), as fastnat does "
        + "always; for fastnat, its tables divided by the flows they hold; and how many of four million flows a table of 2^22 holds"

    func groups(_ options: BenchOptions) -> [WorkloadGroup] {
        let flows = options.quick ? 100_000 : 250_000
        let plan = Stage.Plan(layout: .direct, flows: flows, services: [PacketRateWorkload.service], takesFrames: true)
        let measurements = [("memory", false), ("memory, packets counted", true)].map { name, isCounted in
            Measurement(name: name, metrics: [.init(name: "a flow", unit: .bytes)]) { stage throws(BenchError) in
                try FlowMemoryProbe(stage, flows: UInt32(flows), isCounted: isCounted)
            }
        }
        let memory = WorkloadGroup(plan: plan, measurements: measurements, roundsShare: 0)
        return options.quick ? [memory] : [memory, held(options)]
    }

    /// A table of 2^22 flows, nearly full.
    private func held(_ options: BenchOptions) -> WorkloadGroup {
        let plan = Stage.Plan(
            layout: .direct, table: 1 << 22, services: [PacketRateWorkload.service], takesFrames: true)
        let measurement = Measurement(name: "4 M opened", metrics: [.init(name: "held", unit: .flows)]) {
            stage throws(BenchError) in
            try HeldFlowsProbe(stage)
        }
        return WorkloadGroup(plan: plan, measurements: [measurement], roundsShare: 0)
    }
}

/// Opens four million flows, and looks how many there are, and that packets of the first and of the last still arrive.
private final class HeldFlowsProbe: Probe {
    private let held: Double

    private static let flows: UInt32 = 4_000_000
    /// So many at a time, because only a quarter of the table is for flows that have had no reply (docs/state.md).
    private static let step: UInt32 = 500_000
    /// How often a client would send again: less often than TCP does for a SYN.
    private static let repetitions = 3

    init(_ stage: Stage) throws(BenchError) {
        guard stage.kind == .fastnatTC else {
            throw .unavailable(
                stage.path is FastnatPath ? "its table is that of fastnat-tc" : "not tried: its table has any size")
        }
        let service = PacketRateWorkload.service
        for last in stride(from: Self.step, through: Self.flows, by: Int(Self.step)) {
            let stream = try PacketStream(stage, PacketStream.Shape(flows: last, service: service))
            try stream.openFlows()
            // The first ones: those of all steps before must be there, too.
            try stream.verify()
        }
        var held = try Self.flows(of: stage)
        // A packet that was lost when it was to begin its flow is sent again, as its client would.
        for _ in 0..<Self.repetitions where held < Self.flows {
            stage.openFlows = [:]
            try PacketStream(stage, PacketStream.Shape(flows: Self.flows, service: service)).openFlows()
            held = try Self.flows(of: stage)
        }
        self.held = Double(held)
    }

    private static func flows(of stage: Stage) throws(BenchError) -> Int {
        try stage.topology.host.inside { () throws(BenchError) in
            do { return try LoadedDatapath(for: .read).status().flows.flows } catch { throw .wrong("\(error)") }
        }
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] { [held] }
}

private final class FlowMemoryProbe: Probe {
    private let bytes: Double

    /// `isCounted`: the kernel counts packets and bytes of each flow.
    init(_ stage: Stage, flows: UInt32, isCounted: Bool) throws(BenchError) {
        if let path = stage.path as? FastnatPath {
            bytes = try Self.tableBytes(of: path)
        } else if stage.kind.usesConnectionTracking {
            try lab { () throws(TestingError) in
                try stage.topology.host.setSystemControl("net.netfilter.nf_conntrack_acct", isCounted ? "1" : "0")
            }
            bytes = try Self.slabBytes(stage, flows: flows) + 16
        } else {
            throw .unavailable("it keeps no flows")
        }
    }

    func sample(seconds: Double) throws(BenchError) -> [Double] { [bytes] }

    /// Opens the flows and looks at what the kernel has taken meanwhile.
    private static func slabBytes(_ stage: Stage, flows: UInt32) throws(BenchError) -> Double {
        let stream = try PacketStream(stage, PacketStream.Shape(flows: flows, service: PacketRateWorkload.service))
        try stream.verify()
        try stage.forgetFlows()
        let before = try settledSlab()
        try stream.openFlows()
        let grown = slab() - before
        let count = try lab { () throws(TestingError) in
            Int(try stage.topology.host.command(["conntrack", "--count"]).output) ?? 0
        }
        if count < Int(flows) * 9 / 10 { throw .wrong("of \(flows) flows, \(count) were opened") }
        return grown / Double(count)
    }

    /// Namespaces that have gone, and the flows in them, are freed some time later: waits until that is over.
    private static func settledSlab() throws(BenchError) -> Double {
        let (deadline, tolerance) = (ContinuousClock.now + .seconds(15), 1_000_000.0)
        var (reference, since) = (slab(), ContinuousClock.now)
        while ContinuousClock.now < deadline {
            usleep(50_000)
            let now = slab()
            if abs(now - reference) > tolerance { (reference, since) = (now, ContinuousClock.now) }
            if ContinuousClock.now - since > .milliseconds(500) { return now }
        }
        throw .unavailable("the kernel's slabs do not come to rest: too much else goes on here")
    }

    /// Bytes in slabs of the kernel (proc(5), /proc/meminfo).
    private static func slab() -> Double {
        let line = textFile("/proc/meminfo")?.split(separator: "\n").first { $0.hasPrefix("Slab:") }
        return (line?.split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0) * 1024
    }

    /// Memory of the maps that grow with the number of flows, for each flow they have room for.
    private static func tableBytes(of path: FastnatPath) throws(BenchError) -> Double {
        let pins = try lab { () throws(TestingError) in try path.pins } + "/maps/"
        var bytes = 0.0
        var capacity = 0.0
        for name in ["flows", "flow_index", "flow_slots", variablesMap] {
            let map = try bpf { () throws(BPFError) in try MapSize(pinnedAt: pins + name) }
            bytes += map.bytes
            if name == "flows" { capacity = map.entries * 2 }  // in pairs
        }
        return bytes / capacity
    }
}

/// What the kernel says of a map in /proc/self/fdinfo.
private struct MapSize {
    var bytes = 0.0
    var entries = 0.0

    init(pinnedAt path: String) throws(BPFError) {
        let map = try Descriptor(pinnedAt: path)
        for line in (textFile("/proc/self/fdinfo/\(map.number)") ?? "").split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard words.count == 2, let value = Double(words[1]) else { continue }
            if words[0] == "memlock:" { bytes = value }
            if words[0] == "max_entries:" { entries = value }
        }
    }
}
