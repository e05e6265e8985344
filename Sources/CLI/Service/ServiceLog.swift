internal import ArgumentParser
internal import Glibc
internal import Logging

/// From which level on messages are logged.
enum LogLevel: String, CaseIterable, ExpressibleByArgument {
    case debug
    case info
    case notice
    case warning
    case error

    var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .info }
}

/// Writes log messages on stderr, a line each: `level: message key=value`.
///
/// Under systemd the journal knows the time, and the level from the number before the line (sd-daemon(3)); elsewhere the line has
/// both.
struct ServiceLog: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    private let isJournal: Bool

    /// One for messages of this level and those above.
    init(level: Logger.Level) {
        logLevel = level
        isJournal = getenv("JOURNAL_STREAM") != nil
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let values = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        let text = values.reduce("\(event.message)") { "\($0) \($1.key)=\(Self.quoted("\($1.value)"))" }
        let prefix = isJournal ? "<\(event.level.priority)>" : "\(Self.now()) \(event.level): "
        complain(prefix + text.split(whereSeparator: \.isNewline).joined(separator: " "))
    }

    /// A value that is one word, or in quotes.
    private static func quoted(_ value: String) -> String {
        value.isEmpty || value.contains { $0 == " " || $0 == "\"" || $0 == "=" } ? value.debugDescription : value
    }

    /// The time in UTC, as RFC 3339 writes it.
    private static func now() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        var text = [CChar](repeating: 0, count: 32)
        let length = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &parts)
        let milliseconds = String(1000 + now.tv_nsec / 1_000_000).dropFirst()
        return String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) + ".\(milliseconds)Z"
    }
}

extension Logger.Level {
    /// The level's number for syslog.
    fileprivate var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
