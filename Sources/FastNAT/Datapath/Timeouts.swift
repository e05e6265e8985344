internal import CDatapath

/// Seconds without a packet after which a flow ends.
public struct Timeouts: Sendable, Hashable {
    /// A TCP connection that is not established (RFC 5382, REQ-5: at least 4 minutes).
    public var tcpHalfOpen: UInt32 = 240
    /// An established TCP connection (RFC 5382, REQ-5: at least 2 hours 4 minutes).
    public var tcpOpen: UInt32 = 7440
    /// A TCP connection after a FIN from both sides or a RST (RFC 7857, section 2.1: at least 4 minutes).
    public var tcpClosing: UInt32 = 240
    /// UDP (RFC 4787, REQ-5: 5 minutes recommended, never under 2).
    public var udp: UInt32 = 300
    /// ICMP echo (RFC 5508, REQ-2: never under 60 seconds).
    public var icmp: UInt32 = 60

    /// The defaults.
    public init() {}

    /// Bounds of each, in seconds. The lower ones of TCP are for tests and special uses; the RFCs' are the defaults.
    public func validated() throws(FastNATError) -> Timeouts {
        let day = 86_400
        for (name, value, bounds) in [
            ("TCP half-open", tcpHalfOpen, 1...day), ("TCP open", tcpOpen, 1...30 * day),
            ("TCP closing", tcpClosing, 1...day), ("UDP", udp, 120...day),
            ("ICMP", icmp, 60...day),
        ] where !bounds.contains(Int(value)) {
            throw .invalidTimeout(name, Int(value), bounds: bounds)
        }
        return self
    }

    var abi: timeouts {
        timeouts(tcp_half_open: tcpHalfOpen, tcp_open: tcpOpen, tcp_closing: tcpClosing, udp: udp, icmp: icmp)
    }

    init(_ abi: timeouts) {
        tcpHalfOpen = abi.tcp_half_open
        tcpOpen = abi.tcp_open
        tcpClosing = abi.tcp_closing
        udp = abi.udp
        icmp = abi.icmp
    }
}

/// Timeouts to change, in seconds; nil ones stay.
public struct TimeoutChanges: Sendable, Hashable {
    let tcpHalfOpen: UInt32?
    let tcpOpen: UInt32?
    let tcpClosing: UInt32?
    let udp: UInt32?
    let icmp: UInt32?

    /// The changes; none by default.
    public init(
        tcpHalfOpen: UInt32? = nil, tcpOpen: UInt32? = nil, tcpClosing: UInt32? = nil, udp: UInt32? = nil,
        icmp: UInt32? = nil
    ) {
        self.tcpHalfOpen = tcpHalfOpen
        self.tcpOpen = tcpOpen
        self.tcpClosing = tcpClosing
        self.udp = udp
        self.icmp = icmp
    }

    /// All of these.
    init(_ timeouts: Timeouts) {
        self.init(
            tcpHalfOpen: timeouts.tcpHalfOpen, tcpOpen: timeouts.tcpOpen, tcpClosing: timeouts.tcpClosing,
            udp: timeouts.udp, icmp: timeouts.icmp)
    }

    func applied(to timeouts: Timeouts) throws(FastNATError) -> Timeouts {
        var result = timeouts
        result.tcpHalfOpen = tcpHalfOpen ?? timeouts.tcpHalfOpen
        result.tcpOpen = tcpOpen ?? timeouts.tcpOpen
        result.tcpClosing = tcpClosing ?? timeouts.tcpClosing
        result.udp = udp ?? timeouts.udp
        result.icmp = icmp ?? timeouts.icmp
        return try result.validated()
    }
}
