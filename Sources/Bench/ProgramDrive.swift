internal import BPF
internal import CBench
internal import Glibc
internal import Lab
internal import Synchronization

/// Times a path's program on the uplink by test run: frames of its flows, one after the other, as if they came in there.
///
/// What is timed is a program that writes a frame and calls the path's, minus the same with one that does nothing in its place.
/// A repetition counts only if the program redirected every frame of it.
final class ProgramDrive {
    private let programs: BenchPrograms
    private let stage: Stage
    private let uplink: UInt32
    /// How many flows take part at a time.
    private let flows: UInt32
    private let windows: UInt32
    private let frame: [UInt8]
    private var traffic: bench_traffic
    private let timed: Descriptor
    private let isXDP: Bool
    /// Looks up the next hops of flows, which are good for a second: XDP leaves that to TC.
    private let refreshing: Descriptor

    /// Frames of one repetition: a millisecond's or two, where caches hold all.
    private let frames: Int32
    /// Repetitions of which the least counts. A test run at XDP enters and leaves the kernel's dispatcher, which takes longer than
    /// the frames, so in a sample's time there were some few of the program, against these of the empty one.
    private static let tries = 50
    private var leastTries: Int { flows == 1 ? Self.tries : 3 }
    /// Of more flows than these, so many in a row take part at once: the next hops of a million are not looked up in a second.
    /// They are far more than any cache holds.
    private static let window: UInt32 = 1 << 18
    /// A little more than a next hop is good for, µs (docs/packet-walk.md).
    private static let nextHopLifetime: UInt32 = 960_000

    /// `stream` has opened the flows.
    init(_ stage: Stage, _ stream: PacketStream, flows: UInt32) throws(BenchError) {
        self.stage = stage
        self.flows = min(flows, Self.window)
        windows = max(1, flows / Self.window)
        frames = flows == 1 ? 20_000 : 100_000
        programs = stream.programs
        uplink = try stage.topology.host.interfaceIndex(of: stage.topology.uplinks[0])
        let traffic = try stream.traffic(BENCH_TO_CONTAINER, order: BENCH_ORDER_RANDOM)
        self.traffic = traffic
        self.traffic.flows = self.flows
        frame = withUnsafeBytes(of: traffic.frame) { Array($0.prefix(Int(BENCH_FRAME_SIZE))) }
        isXDP = stage.kind.isAtXDP
        if let path = stage.path as? RedirectPath {
            guard let first = path.attached.first else { throw .wrong("no program is attached") }
            timed = try bpf { () throws(BPFError) in try first.link.program() }
            refreshing = try bpf { () throws(BPFError) in try first.link.program() }
        } else if let path = stage.path as? FastnatPath {
            timed = try Self.program(of: path, uplink, isXDP ? "xdp" : "tcx")
            refreshing = try Self.program(of: path, uplink, "tcx")
        } else {
            throw .unavailable("no BPF programs")
        }
    }

    /// What is attached to an uplink, by its pin (docs/state.md).
    private static func program(of path: FastnatPath, _ uplink: UInt32, _ hook: String) throws(BenchError)
        -> Descriptor
    {
        let pin = try lab { () throws(TestingError) in try path.pins } + "/links/uplink-\(uplink)-\(hook)"
        return try bpf { () throws(BPFError) in try BPFLink(Descriptor(pinnedAt: pin)).program() }
    }

    /// Nanoseconds of the program for a frame: the least of all repetitions, which other work on this CPU disturbs least.
    func time(seconds: Double) throws(BenchError) -> Double {
        try stage.topology.host.inside { () throws(BenchError) in
            cbench_pin(0)
            // Of this thread, and those that it starts: what waits for a CPU may find that next hops are out of date.
            setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -20)
            var (empty, full) = (UInt32.max, UInt32.max)
            try programs.drive(programs.program(isXDP ? "bench_empty_xdp" : "bench_empty_tc"), atXDP: isXDP)
            for _ in 0..<Self.tries { empty = min(empty, try run() ?? .max) }
            try programs.drive(timed, atXDP: isXDP)
            try refresh()
            let begin = ContinuousClock.now
            var (valid, failed) = (0, 0)
            while valid < leastTries || (ContinuousClock.now - begin).seconds < seconds {
                if let time = try run() {
                    full = min(full, time)
                    valid += 1
                } else {
                    failed += 1
                    if failed > 5 { throw .wrong("the program did not redirect every packet of known flows") }
                    // Only when all are out of date do all become good for the same time.
                    usleep(Self.nextHopLifetime)
                    traffic.first_address =
                        Stage.firstFlowAddress + UInt32(failed) % windows * (Self.window >> UInt32(BENCH_PORT_BITS))
                    try refresh()
                }
            }
            return Double(full) - Double(empty)
        }
    }

    /// One repetition: the mean time of a frame. nil: not all were redirected.
    private func run() throws(BenchError) -> UInt32? {
        traffic.order = BENCH_ORDER_RANDOM.rawValue
        try prepare()
        let time = try drive(atXDP: isXDP, frames)
        let seen = try programs.count(BENCH_TO_CONTAINER)
        return seen.arrived == UInt64(frames) && seen.wrong == 0 ? time : nil
    }

    /// A frame of each flow to TC, which looks up the next hops that are out of date. Two CPUs do half of them each:
    /// all must be done while the first of them is still good.
    private func refresh() throws(BenchError) {
        guard stage.path is FastnatPath else { return }
        try programs.drive(refreshing, atXDP: false)
        let cpus: UInt32 = flows > 1000 && sysconf(Int32(_SC_NPROCESSORS_ONLN)) > 1 ? 2 : 1
        let share = (flows + cpus - 1) / cpus
        traffic.order = BENCH_ORDER_EACH.rawValue
        traffic.first = share
        try prepare()
        let isOtherDone = Mutex(cpus == 1)
        let other = try GeneratorThread(in: stage.topology.host, cpu: 1) { () throws(BenchError) in
            if isOtherDone.withLock({ $0 }) {
                usleep(200)
                return
            }
            _ = try self.drive(atXDP: false, Int32(share))
            isOtherDone.withLock { $0 = true }
        }
        _ = try drive(atXDP: false, Int32(share))
        while !isOtherDone.withLock({ $0 }) { usleep(200) }
        try other.stop()
    }

    private func prepare() throws(BenchError) {
        try programs.send(traffic, BENCH_TO_CONTAINER)
        try programs.reset(BENCH_TO_CONTAINER)
    }

    private func drive(atXDP: Bool, _ count: Int32) throws(BenchError) -> UInt32 {
        let program = try programs.program(atXDP ? "bench_drive_xdp" : "bench_drive_tc")
        return try bpf { () throws(BPFError) in
            atXDP
                ? try program.testRun(frame, frameInterface: uplink, repeat: count).duration
                : try program.testRun(frame, interfaceIndex: uplink, repeat: count).duration
        }
    }
}
