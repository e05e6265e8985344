import Glibc

/// Polls `condition` every 5 ms until it holds; throws `.timedOut(what)` if it does not within `timeout`.
public func awaitCondition(
    _ what: @autoclosure () -> String = "condition",
    timeout: Duration = .seconds(5),
    _ condition: () throws(TestingError) -> Bool
) throws(TestingError) {
    let deadline = ContinuousClock.now + timeout
    while try !condition() {
        if ContinuousClock.now >= deadline { throw .timedOut(what()) }
        usleep(5_000)
    }
}

/// The text of an errno.
package func errorText(_ number: Int32) -> String {
    String(cString: strerror(number))
}

extension Duration {
    /// Whole milliseconds, rounded up, as poll(2) wants them.
    package var milliseconds: Int32 {
        let (seconds, attoseconds) = components
        return Int32(clamping: seconds * 1_000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
