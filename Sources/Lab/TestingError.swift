/// What went wrong while preparing or observing a test.
public enum TestingError: Error, Sendable, CustomStringConvertible {
    /// A system call failed with this errno.
    case system(call: String, errno: Int32)
    /// A program ended with a status other than 0.
    case commandFailed(CommandResult)
    /// Something did not happen in time; the text says what, and what was seen instead.
    case timedOut(String)
    /// Text or bytes that could not be understood.
    case malformed(String)
    /// A transfer arrived, but not as it was sent.
    case corrupted(String)

    /// One sentence for the test's report.
    public var description: String {
        switch self {
        case .system(let call, let number): "\(call): \(errorText(number))"
        case .commandFailed(let result): "\(result)"
        case .timedOut(let what): "timed out: \(what)"
        case .malformed(let what): "malformed: \(what)"
        case .corrupted(let what): "corrupted: \(what)"
        }
    }
}
