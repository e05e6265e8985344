internal import Glibc

/// How many threads can run at once.
public var processorCount: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

/// Calls `body` with each number below `count`, each on a thread of its own, and returns when all have; throws the error of the
/// lowest number.
public func inParallel(_ count: Int, _ body: @escaping @Sendable (Int) throws(BPFError) -> Void) throws(BPFError) {
    let workers = (0..<count).map { number in Worker { () throws(BPFError) in try body(number) } }
    for worker in workers { worker.start() }
    for worker in workers { worker.join() }
    for worker in workers { try worker.outcome.get() }
}

/// A call on a thread of its own. Whoever has started it sees the outcome when he has joined it, not before.
private final class Worker: @unchecked Sendable {
    private let body: @Sendable () throws(BPFError) -> Void
    private var thread: pthread_t?
    private(set) var outcome: Result<Void, BPFError> = .success(())

    init(_ body: @escaping @Sendable () throws(BPFError) -> Void) { self.body = body }

    private func run() {
        do throws(BPFError) { try body() } catch { outcome = .failure(error) }
    }

    /// Where there can be no more threads, here and now.
    func start() {
        var started = pthread_t()
        let failure = pthread_create(
            &started, nil,
            { argument in
                if let argument { Unmanaged<Worker>.fromOpaque(argument).takeUnretainedValue().run() }
                return nil
            }, Unmanaged.passUnretained(self).toOpaque())
        if failure == 0 { thread = started } else { run() }
    }

    func join() {
        if let thread { pthread_join(thread, nil) }
    }
}
