internal import Dispatch
internal import Glibc

/// Signals as values: while this is there, they do not end the process by themselves.
final class Signals {
    /// The numbers of signals, as they come.
    let numbers: AsyncStream<Int32>

    private let sources: [any DispatchSourceSignal]

    /// Takes these signals.
    init(_ numbers: Int32...) {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
        self.numbers = stream
        sources = numbers.map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield(number) }
            source.resume()
            return source
        }
    }
}

/// Runs asynchronous work from a command that is not, and waits for it. Only for a thread that no task runs on.
func waiting<Result: Sendable>(for body: @Sendable @escaping () async -> Result) -> Result? {
    let done = DispatchSemaphore(value: 0)
    let box = Box<Result>()
    Task {
        box.value = await body()
        done.signal()
    }
    done.wait()
    return box.value
}

/// A place for one result; the semaphore orders the write before the read.
private final class Box<Value: Sendable>: @unchecked Sendable {
    var value: Value?
}
