internal import CDatapath

/// A reason for which a packet is not forwarded, as bpf/abi/reasons.h lists it.
struct Reason: Sendable, Hashable {
    /// Index of its counter.
    let number: UInt32
    /// As printed, such as `ttl_expired`.
    let name: String
    /// What it means.
    let text: String
    /// Whether the packets are dropped; otherwise they go up the stack untouched.
    let isDrop: Bool

    private init(_ number: UInt32) {
        self.number = number
        name = String(cString: fastnat_reason_name(number))
        text = String(cString: fastnat_reason_text(number))
        isDrop = fastnat_reason_drops(number) != 0
    }

    /// All of them, by number.
    static let all = (0..<REASON_COUNT.rawValue).map { Reason($0) }
}
