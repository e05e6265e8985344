internal import Glibc

/// What all CPUs of the machine do from its making on.
struct CPUMeter {
    private let begin = ContinuousClock.now
    private let idle = Self.idleSeconds()
    private let processors = Double(sysconf(Int32(_SC_NPROCESSORS_ONLN)))

    /// Seconds in which CPUs were not idle. The kernel measures idle times and only samples others, which misses short work.
    func busySeconds() -> Double {
        (ContinuousClock.now - begin).seconds * processors - (Self.idleSeconds() - idle)
    }

    /// Time in which CPUs had nothing to do, or were not there (proc(5), /proc/stat: user nice system idle iowait irq softirq
    /// steal).
    private static func idleSeconds() -> Double {
        let text = textFile("/proc/stat")?.split(separator: "\n").first ?? ""
        let ticks = text.split(whereSeparator: \.isWhitespace).dropFirst().compactMap { Double($0) }
        guard ticks.count >= 8 else { return 0 }
        return (ticks[3] + ticks[4] + ticks[7]) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }
}
