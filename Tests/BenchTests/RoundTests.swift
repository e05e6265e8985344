import FastNATTesting
import Testing

@testable import Bench

@Suite("Rounds of a measurement") struct RoundTests {
    private func measurement() -> Measurement {
        Measurement(name: "any", metrics: []) { _ throws(BenchError) in throw .wrong("not to be begun") }
    }

    private func options(rounds: Int) -> BenchOptions {
        BenchOptions(rounds: rounds, binary: "fastnat", version: "0")
    }

    @Test(
        "A share of them is rounded up, and at least one",
        arguments: [(1.0, 4, 4), (2.5, 4, 10), (0.75, 4, 3), (0.75, 1, 1), (0.5, 5, 3), (0, 4, 1)])
    func shares(share: Double, rounds: Int, expected: Int) {
        #expect(measurement().inRounds(share).rounds(options(rounds: rounds)) == expected)
    }

    @Test("A quick run has no multiple of them")
    func quick() {
        let options = BenchOptions(rounds: 2, quick: true, binary: "fastnat", version: "0")
        #expect(measurement().inRounds(2.5).rounds(options) == 2)
        #expect(measurement().inRounds(0.5).rounds(options) == 1)
    }

    @Test("A group's share is one of what each of its measurements has")
    func groups() {
        let plan = Stage.Plan(layout: .direct, services: [])
        let group = WorkloadGroup(
            plan: plan, measurements: [measurement(), measurement().inRounds(0.5)], roundsShare: 0.5)
        #expect(group.measurements.map { $0.rounds(options(rounds: 8)) } == [4, 2])
    }

    @Test(
        "Each workload of a whole run has the rounds that docs/benchmarks.md says: four, of bulk three to seven, of cps ten, of new flows and packets kept up to eight"
    )
    func workloads() {
        let options = options(rounds: 4)
        for kind in WorkloadKind.allCases {
            let rounds = Set(kind.workload.groups(options).flatMap(\.measurements).map { $0.rounds(options) })
            switch kind {
            case .bulk: #expect(rounds == [3, 4, 7])
            case .cps: #expect(rounds == [10])
            case .newflow, .rules: #expect(rounds.isSubset(of: [1, 2, 4, 8]), "\(kind)")
            default: #expect(rounds.isSubset(of: 1...4), "\(kind)")
            }
        }
    }
}
