import FastNATTesting
import Glibc
import Testing

/// Random packets and commands, through the datapath and through a model of what it promises.
///
/// FASTNAT_SEQUENCES says how many sequences, FASTNAT_SEED with which one they begin; each has a seed of its own, the next
/// number, so that one that fails is run again by `FASTNAT_SEED=… FASTNAT_SEQUENCES=1`. Others than the usual ones are run by
/// `FASTNAT_SEED=$RANDOM`.
@Suite struct SequenceTests {
    @Test func `random sequences: every packet becomes what the model says`() throws {
        let count = Self.setting("FASTNAT_SEQUENCES") ?? 1_500
        let first = Self.setting("FASTNAT_SEED") ?? 1
        print("sequences: FASTNAT_SEED=\(first) FASTNAT_SEQUENCES=\(count)")
        let start = ContinuousClock.now
        let threads = Self.setting("FASTNAT_THREADS") ?? 2
        let tallies = try inParallel(Int(threads)) { thread in
            try Self.run(stride(from: first + UInt64(thread), to: first + count, by: Int(threads)))
        }
        let (steps, forwarded) = tallies.reduce((0, 0)) { ($0.0 + $1.steps, $0.1 + $1.forwarded) }
        print(
            "sequences: \(count) of \(steps) steps in \(ContinuousClock.now - start), \(forwarded) packets forwarded")
        for failure in tallies.compactMap(\.failure) { Issue.record("\(failure)") }
        // A generator that makes nothing of interest would find no difference, either.
        #expect(count < 100 || forwarded > steps / 8)
    }

    /// The model is no better than what it is compared with: here with the kernel's NAT, where the two should agree.
    @Test func `random sequences: the kernel's NAT does what the model says`() throws {
        let count = Self.setting("FASTNAT_KERNEL_SEQUENCES") ?? 40
        let first = Self.setting("FASTNAT_SEED") ?? 1
        let kernel = try KernelNAT()
        let start = ContinuousClock.now
        var tally = Tally()
        for seed in first..<first + count where tally.failure == nil {
            try tally.add(seed) { steps in try KernelRunner.run(steps, on: kernel) }
        }
        print(
            "sequences: FASTNAT_SEED=\(first) FASTNAT_KERNEL_SEQUENCES=\(count) of \(tally.steps) steps in "
                + "\(ContinuousClock.now - start), \(tally.forwarded) packets forwarded")
        if let failure = tally.failure { Issue.record("\(failure)") }
        #expect(count < 10 || tally.forwarded > tally.steps / 8)
    }

    /// What a thread has done.
    private struct Tally {
        var steps = 0
        var forwarded = 0
        var failure: String?

        /// Runs the sequence of a seed. One that fails is shortened as long as what is left still does.
        mutating func add(_ seed: UInt64, _ run: ([Step]) throws -> SequenceResult) throws {
            var generator = StepGenerator(seed: seed)
            let sequence = generator.sequence()
            let result = try run(sequence)
            steps += result.steps
            forwarded += result.forwarded
            guard let difference = result.difference else { return }
            let shortest = try run(shrink(sequence) { try run($0).difference != nil })
            let script = shortest.script.enumerated().map { "  \($0 + 1). \($1)" }.joined(separator: "\n")
            failure =
                "FASTNAT_SEED=\(seed), one sequence: \(shortest.difference ?? "at times, \(difference)")\n\(script)"
        }
    }

    private static func run(_ seeds: some Sequence<UInt64>) throws -> Tally {
        let datapath = try TestDatapath([], flows: 4_096, timeouts: FlowExpiryTests.spread)
        return try datapath.inNamespace {
            var tally = Tally()
            for seed in seeds where tally.failure == nil {
                try tally.add(seed) { steps in try SequenceRunner.run(steps, on: datapath) }
            }
            return tally
        }
    }

    private static func setting(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }
}

/// Leaves out steps as long as what is left still fails: halves first, then ever smaller parts.
func shrink<Step>(_ steps: [Step], fails: ([Step]) throws -> Bool) rethrows -> [Step] {
    var steps = steps
    var size = max(1, steps.count / 2)
    while true {
        var start = 0
        var hasShrunk = false
        while start < steps.count {
            let candidate = Array(steps[..<start] + steps[min(start + size, steps.count)...])
            if try fails(candidate) {
                steps = candidate
                hasShrunk = true
            } else {
                start += size
            }
        }
        if size == 1, !hasShrunk { return steps }
        size = max(1, size / 2)
    }
}
