import Foundation
import Synchronization

/// Runs `body` on so many threads at once.
func inParallel<R: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) throws -> R) throws -> [R] {
    let results = Mutex<[Result<R, any Error>]>([])
    let group = DispatchGroup()
    let gate = DispatchSemaphore(value: 0)
    for number in 0..<count {
        group.enter()
        Thread {
            gate.wait()
            let result = Result { try body(number) }
            results.withLock { $0.append(result) }
            group.leave()
        }.start()
    }
    for _ in 0..<count { gate.signal() }
    group.wait()
    return try results.withLock { $0 }.map { try $0.get() }
}

/// Where threads wait for each other again and again, so that what they do next they do at the same moment.
final class Rendezvous: Sendable {
    private let arrivals = Atomic(0)
    private let parties: Int

    init(of parties: Int) { self.parties = parties }

    /// Waits for the others to come to their meeting of this number too, counted from 0; for a second at most, in case
    /// one of them has failed.
    func meet(_ number: Int) {
        arrivals.add(1, ordering: .acquiringAndReleasing)
        let deadline = ContinuousClock.now + .seconds(1)
        while arrivals.load(ordering: .acquiring) < (number + 1) * parties {
            for _ in 0..<2_000 where arrivals.load(ordering: .acquiring) < (number + 1) * parties {}
            sched_yield()
            if ContinuousClock.now > deadline { return }
        }
    }
}
