internal import CBench
internal import Glibc
internal import Lab
internal import Synchronization

/// A thread in a namespace that makes one system call after the other until it is told to stop.
///
/// The kernel generates frames in one long call, which a signal ends.
final class GeneratorThread {
    private struct State {
        /// The thread, while a signal may be sent to it.
        var running: pthread_t?
        var isStopped = false
    }

    private let state = Mutex(State())
    private let failure = Mutex<BenchError?>(nil)
    private var thread = pthread_t()
    private let namespace: NetworkNamespace
    private let cpu: UInt32
    private let body: () throws(BenchError) -> Void

    /// Starts it. `body` makes the call; that a signal ended it is no error.
    init(in namespace: NetworkNamespace, cpu: UInt32, _ body: @escaping () throws(BenchError) -> Void)
        throws(BenchError)
    {
        self.namespace = namespace
        self.cpu = cpu
        self.body = body
        let result = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<GeneratorThread>.fromOpaque(argument).takeUnretainedValue().run() }
                return nil
            }, Unmanaged.passUnretained(self).toOpaque())
        if result != 0 { throw .wrong("cannot start a thread: \(String(cString: strerror(result)))") }
    }

    /// Interrupts the call, waits for the thread, and throws what it threw. To be called once.
    func stop() throws(BenchError) {
        var isRunning = true
        while isRunning {
            isRunning = state.withLock { state in
                state.isStopped = true
                if let running = state.running { cbench_interrupt(running) }
                return state.running != nil
            }
            usleep(500)
        }
        pthread_join(thread, nil)
        if let failure = failure.withLock({ $0 }) { throw failure }
    }

    private func run() {
        do throws(BenchError) {
            try namespace.inside { () throws(BenchError) in
                cbench_pin(cpu)
                state.withLock { $0.running = cbench_interruptible_thread() }
                defer { state.withLock { $0.running = nil } }
                while !state.withLock({ $0.isStopped }) { try body() }
            }
        } catch {
            failure.withLock { $0 = error }
        }
    }
}
