import Glibc

/// tcpdump on one interface of a namespace, capturing since this object was made.
public final class Capture: Sendable {
    /// Which packets, as seen from the interface.
    public enum Direction: String, Sendable {
        /// Received.
        case received = "in"
        /// Sent.
        case sent = "out"
        /// Both.
        case both = "inout"
    }

    private let process: ChildProcess

    /// Starts to capture what `filter` (pcap syntax) lets through, and waits until the kernel does so.
    public init(
        _ interface: String, in namespace: NetworkNamespace, _ direction: Direction = .both, filter: String = ""
    ) throws(TestingError) {
        let filters = filter.isEmpty ? [] : [filter]
        // 8 MiB: room for a burst of 128 frames. It has 64 KiB for each, and may not be scheduled between two of them.
        let output = ["-n", "-U", "-w", "-", "--immediate-mode", "-B", "8192", "-Z", "root"]
        process = try namespace.spawn(["tcpdump", "-i", interface] + output + ["-Q", direction.rawValue] + filters)
        try process.waitUntil(printed: "listening on")
    }

    /// The frames so far.
    public func frames() throws(TestingError) -> [[UInt8]] { try PcapFile(process.outputBytes).frames }

    /// Waits for a frame that fulfils `condition`, and returns the first.
    public func waitFor(
        _ what: String, timeout: Duration = .seconds(3), _ condition: (PacketView) -> Bool
    ) throws(TestingError) -> PacketView {
        var found: PacketView?
        var seen: [PacketView] = []
        do throws(TestingError) {
            try awaitCondition(what, timeout: timeout) { () throws(TestingError) in
                seen = try frames().map { PacketView($0) }
                found = seen.first(where: condition)
                return found != nil
            }
        } catch {
            throw .timedOut("\(what); captured:\n" + seen.map(\.description).joined(separator: "\n"))
        }
        guard let found else { throw .timedOut(what) }
        return found
    }

    /// Waits until `count` frames have been captured, and returns what there is then.
    @discardableResult
    public func waitFor(count: Int, timeout: Duration = .seconds(3)) throws(TestingError) -> [[UInt8]] {
        try awaitCondition("\(count) frames", timeout: timeout) { () throws(TestingError) in
            try frames().count >= count
        }
        return try frames()
    }

    /// Ends the capture, and returns every frame that the kernel had seen by then.
    public func stop() throws(TestingError) -> [[UInt8]] {
        process.signal(SIGINT)
        _ = try process.wait(timeout: .seconds(5))
        return try frames()
    }
}

/// A classic pcap file of Ethernet frames, as far as it has been written.
public struct PcapFile: Sendable {
    /// The frames, as captured.
    public let frames: [[UInt8]]

    /// Decodes a file; a record that is not complete yet is left out.
    public init(_ file: [UInt8]) throws(TestingError) {
        guard file.count >= 24 else {
            frames = []
            return
        }
        let microseconds: [UInt8] = [0xa1, 0xb2, 0xc3, 0xd4]
        let nanoseconds: [UInt8] = [0xa1, 0xb2, 0x3c, 0x4d]
        let magic = Array(file[..<4])
        let isBigEndian = magic == microseconds || magic == nanoseconds
        guard isBigEndian || magic.reversed() == microseconds || magic.reversed() == nanoseconds else {
            throw .malformed("pcap magic \(hexText(magic))")
        }
        func u32(_ index: Int) -> Int {
            let value = file.u32(index)
            return Int(isBigEndian ? value : value.byteSwapped)
        }
        guard u32(20) & 0xffff == 1 else { throw .malformed("pcap link type \(u32(20))") }
        var frames: [[UInt8]] = []
        var index = 24
        while index + 16 <= file.count, case let end = index + 16 + u32(index + 8), end <= file.count {
            frames.append(Array(file[index + 16..<end]))
            index = end
        }
        self.frames = frames
    }
}
