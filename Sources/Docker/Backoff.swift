/// How long to wait before the next attempt: longer each time, until one succeeds.
struct Backoff: Sendable {
    private static let first = Duration.milliseconds(100)
    private static let longest = Duration.seconds(10)

    private var upcoming = Self.first

    /// The time to wait now.
    mutating func next() -> Duration {
        defer { upcoming = min(upcoming * 2, Self.longest) }
        return upcoming
    }

    /// An attempt has succeeded.
    mutating func reset() { upcoming = Self.first }
}
