internal import CLibbpf
internal import Glibc

/// Why the kernel or libbpf refused something.
public struct BPFError: Error, CustomStringConvertible, Sendable {
    /// What we tried; completes "cannot …".
    public let attempt: String
    /// errno, or one of libbpf's own codes (4000 and up).
    public let code: Int32
    /// The last meaningful line of the verifier's log, when it was the verifier.
    public let verifierMessage: String?
    /// The whole log, when it was the verifier.
    public let verifierLog: String?

    /// - Parameter result: what a libbpf call returned: a negative code.
    public init(_ attempt: String, result: Int32, verifierLog: String? = nil) {
        self.attempt = attempt
        self.code = -result
        self.verifierLog = verifierLog
        self.verifierMessage = verifierLog.flatMap(Self.lastMeaningfulLine)
    }

    /// One sentence without a final stop.
    public var description: String {
        var text = "cannot \(attempt): \(Self.text(of: code))"
        if let verifierMessage { text += " (the verifier says: \(verifierMessage))" }
        return text
    }

    /// libbpf's text for an errno or a code of its own.
    static func text(of code: Int32) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
            guard let start = buffer.baseAddress else { return "error \(code)" }
            _ = libbpf_strerror(code, start, buffer.count)
            return String(cString: start)
        }
    }

    /// The line before the verifier's closing statistics.
    static func lastMeaningfulLine(of log: String) -> String? {
        log.split(separator: "\n").last { line in
            !line.hasPrefix("processed ") && !line.hasPrefix("stack depth") && !line.allSatisfy(\.isWhitespace)
        }.map(String.init)
    }
}

/// Turns a libbpf result into a thrown error.
@discardableResult
func check(_ result: Int32, _ attempt: @autoclosure () -> String) throws(BPFError) -> Int32 {
    guard result >= 0 else { throw BPFError(attempt(), result: result) }
    return result
}
