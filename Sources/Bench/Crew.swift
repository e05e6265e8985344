internal import Glibc
internal import Synchronization

/// Two threads that take one of several things after the other: what waits for child processes and the kernel's verifier, and
/// is not measured.
final class Crew {
    private let count: Int
    private let begun = Atomic<Int>(0)
    private let body: (Int) -> Void

    private init(_ count: Int, _ body: @escaping (Int) -> Void) {
        self.count = count
        self.body = body
    }

    /// What `body` returns for each number below `count`, in their order.
    static func each<R>(of count: Int, _ body: (Int) -> R) -> [R] {
        let done = Mutex<Void>(())
        var results = [R?](repeating: nil, count: count)
        withoutActuallyEscaping(body) { body in
            Crew(count) { number in
                let result = body(number)
                done.withLock { _ in results[number] = result }
            }.run()
        }
        return results.compactMap(\.self)
    }

    /// Without another thread, if the system has none to give, it is done by this one alone.
    private func run() {
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<Crew>.fromOpaque(argument).takeUnretainedValue().work() }
                return nil
            }, Unmanaged.passUnretained(self).toOpaque())
        work()
        if failure == 0 { pthread_join(thread, nil) }
    }

    private func work() {
        while true {
            let number = begun.add(1, ordering: .relaxed).oldValue
            if number >= count { return }
            body(number)
        }
    }
}
