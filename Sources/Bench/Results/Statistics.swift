/// What several turns of one measurement say together.
public struct Statistics: Sendable, Hashable {
    /// The middle value.
    public let median: Double
    /// The distance between the quartiles, as a part of the median.
    public let spread: Double

    /// The figures of at least one sample.
    public init?(_ samples: [Double]) {
        guard !samples.isEmpty else { return nil }
        let sorted = samples.sorted()
        median = Self.quantile(0.5, of: sorted)
        let range = Self.quantile(0.75, of: sorted) - Self.quantile(0.25, of: sorted)
        spread = median == 0 ? 0 : range / abs(median)
        margin = spread * 1.96 * 1.25 / 1.35 / Double(sorted.count).squareRoot()
    }

    /// How far off the median may be, as a part of it: half of its interval of 95 %, by the distance of the quartiles (1.35
    /// standard deviations, of which the median of n has 1.25 / √n). 0: of one sample nothing is known.
    public let margin: Double

    /// Whether turns differed so much that the median says little.
    public var isNoisy: Bool { margin > Self.noiseLimit }

    /// The margin from which on a figure is called noisy.
    public static let noiseLimit = 0.1

    /// Interpolates linearly between the neighbours in a sorted array that is not empty.
    static func quantile(_ part: Double, of sorted: [Double]) -> Double {
        let position = part * Double(sorted.count - 1)
        let below = Int(position)
        let above = min(below + 1, sorted.count - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (position - Double(below))
    }
}
