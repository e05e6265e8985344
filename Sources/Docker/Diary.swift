internal import Logging

/// Logs what is done, and what cannot be done once, until that changes.
struct Diary {
    private let log: Logger
    private var refusals: Set<Refusal> = []
    private var problem: String?

    init(_ log: Logger) { self.log = log }

    /// How things stand, in a line.
    var summary: String {
        if let problem { return problem }
        return refusals.isEmpty
            ? "following Docker" : "following Docker; \(refusals.count) ports or networks are left out"
    }

    mutating func note(_ result: SynchronizationResult) {
        if problem != nil { log.notice("synchronized") }
        problem = nil
        for change in result.changes {
            log.info("\(change.text)", metadata: ["owner": "\(change.owner)", "name": "\(change.name ?? "-")"])
        }
        let now = Set(result.refusals)
        for refusal in result.refusals where !refusals.contains(refusal) {
            log.warning(
                "left out: \(refusal.reason)", metadata: ["name": "\(refusal.subject)", "what": "\(refusal.what)"])
        }
        refusals = now
    }

    /// Nothing can be done at present, which is logged elsewhere.
    mutating func wait(_ text: String) { problem = text }

    mutating func note(_ error: any Error) {
        let text = "\(error)"
        log.log(level: text == problem ? .debug : .error, "\(text); what is published stays")
        problem = text
    }
}
