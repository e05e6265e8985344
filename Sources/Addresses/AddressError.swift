/// A text that is no valid address or prefix: what is wrong with it, and what was expected.
public struct AddressError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The text that was refused, as it was given.
    public let input: String
    /// What is wrong with it, such as `the number 256 is larger than 255`.
    public let problem: String
    /// What would have been right, such as `an IPv4 address like 192.0.2.1`.
    public let expected: String

    /// Describes why `input` was refused.
    public init(input: String, problem: String, expected: String) {
        self.input = input
        self.problem = problem
        self.expected = expected
    }

    /// Describes why the UTF-8 text `input` was refused.
    init(input: Span<UInt8>, problem: String, expected: String) {
        self.init(input: String(utf8: input), problem: problem, expected: expected)
    }

    /// One clause without a final stop: `"10.0.0.256": the number 256 is larger than 255; expected an IPv4 address …`.
    public var description: String {
        let longest = 80
        let shown = input.utf8.count > longest ? String(input.prefix(longest)) + "…" : input
        return "\(shown.debugDescription): \(problem); expected \(expected)"
    }
}
