internal import BPF
internal import Synchronization

/// Two threads that take one of several things after the other: what waits for child processes and the kernel's verifier, and
/// is not measured.
final class Crew: @unchecked Sendable {
    private let count: Int
    private let begun = Atomic<Int>(0)
    private let body: (Int) -> Void

    private init(_ count: Int, _ body: @escaping (Int) -> Void) {
        self.count = count
        self.body = body
    }

    /// What `body`, which both threads call, returns for each number below `count`, in their order.
    static func each<R>(of count: Int, _ body: (Int) -> R) -> [R] {
        let done = Mutex<Void>(())
        var results = [R?](repeating: nil, count: count)
        withoutActuallyEscaping(body) { body in
            let crew = Crew(count) { number in
                let result = body(number)
                done.withLock { _ in results[number] = result }
            }
            try? inParallel(2) { _ in crew.work() }  // nothing in it throws
        }
        return results.compactMap(\.self)
    }

    private func work() {
        while true {
            let number = begun.add(1, ordering: .relaxed).oldValue
            if number >= count { return }
            body(number)
        }
    }
}
