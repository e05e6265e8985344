/// Why Docker did not say what containers publish. Its description is one sentence that also says what to do.
public enum DockerError: Error, Sendable {
    /// Nothing answers on the socket.
    case unreachable(String, problem: String)
    /// The answer took too long.
    case silent(String)
    /// Docker answered with an error.
    case refused(request: String, status: UInt, message: String)
    /// The answer is not what the Engine API says.
    case malformed(request: String, problem: String)
}

extension DockerError: CustomStringConvertible {
    /// One sentence without a final stop.
    public var description: String {
        switch self {
        case .unreachable(let socket, let problem):
            "Docker cannot be reached at \(socket): \(problem); is it running, and is this its socket?"
        case .silent(let request):
            "Docker has not answered \(request) for a long time: see what it logs"
        case .refused(let request, let status, let message):
            "Docker answered \(request) with \(status): \(message)"
        case .malformed(let request, let problem):
            "Docker's answer to \(request) is not understood (\(problem)): is that Docker's socket?"
        }
    }
}
