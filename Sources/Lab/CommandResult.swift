/// How a program ended and what it printed.
public struct CommandResult: Sendable, CustomStringConvertible {
    /// The program and its arguments, without the wrapper that put it into a namespace.
    public let arguments: [String]
    /// The exit status; 128 + n when signal n ended it, as a shell reports it.
    public let status: Int32
    /// Standard output, as bytes.
    public let outputBytes: [UInt8]
    /// Standard error.
    public let errors: String

    /// Standard output as text, without the newlines at its end.
    public var output: String {
        var text = String(decoding: outputBytes, as: UTF8.self)
        while text.last?.isNewline == true { text.removeLast() }
        return text
    }

    /// Whether the status is 0.
    public var succeeded: Bool { status == 0 }

    /// The command, its status and what it said.
    public var description: String {
        "`\(arguments.joined(separator: " "))` ended with \(status): \(errors)\(output)"
    }
}
