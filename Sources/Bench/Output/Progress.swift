internal import Glibc

/// A bar on standard error, when that is a terminal; a line for each tenth otherwise.
struct Progress {
    private let steps: Int
    private var done = 0
    private let begin = ContinuousClock.now
    private let isTerminal = isatty(STDERR_FILENO) == 1

    init(steps: Int) { self.steps = steps }

    /// Something begins.
    mutating func step(_ what: String) {
        done += 1
        let elapsed = (ContinuousClock.now - begin).seconds
        if isTerminal {
            let rest = elapsed / Double(done) * Double(max(0, steps - done))
            write("\r\u{1b}[K\(Self.bar(done, of: steps)) \(Self.clock(elapsed)) +\(Self.clock(rest))  \(what)")
        } else if steps >= 10, done * 10 / steps > (done - 1) * 10 / steps {
            write("bench: \(done * 10 / steps)0 % after \(Self.clock(elapsed))\n")
        }
    }

    /// Takes the bar away.
    func finish() {
        if isTerminal { write("\r\u{1b}[K") }
    }

    static func bar(_ done: Int, of steps: Int, width: Int = 30) -> String {
        let filled = steps == 0 ? width : min(width, done * width / steps)
        return String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
    }

    static func clock(_ seconds: Double) -> String {
        let whole = Int(seconds.rounded())
        return "\(whole / 60):\(whole % 60 < 10 ? "0" : "")\(whole % 60)"
    }

    private func write(_ text: String) {
        var text = text
        text.withUTF8 { _ = Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
