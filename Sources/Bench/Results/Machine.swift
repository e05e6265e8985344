internal import CBench
internal import FoundationEssentials
internal import Glibc
internal import Lab

/// Where something was measured.
public struct Machine: Codable, Sendable, Hashable {
    /// Such as "AMD EPYC".
    public var processor: String
    /// How many of them.
    public var cpus: Int
    /// In GiB.
    public var memory: Double
    /// Such as "6.18.2".
    public var kernel: String
    /// Such as "Debian GNU/Linux 12 (bookworm)".
    public var system: String
    /// When, UTC, ISO 8601.
    public var date: String
    /// The version of fastnat.
    public var fastnat: String
    /// Tools by name, and their versions.
    public var tools: [String: String]
    /// Offloads of a veth of the bulk topology that are on.
    public var offloads: [String]
    /// Mean load of the last minute when it began: what else was going on.
    public var load: Double
    /// Nanoseconds of a read out of 256 MiB, of an address that the read before it says. What finds flows among many needs several.
    public var readNanoseconds: Double?
    /// Nanoseconds that a cache line takes from CPU 0 to CPU 1 and back.
    public var lineNanoseconds: Double?

    /// Looks around.
    static func present(fastnat version: String) -> Machine {
        let processor = textFile("/proc/cpuinfo")?.split(separator: "\n").first { $0.hasPrefix("model name") }
        let release = textFile("/etc/os-release")?.split(separator: "\n").first { $0.hasPrefix("PRETTY_NAME=") }
        let kilobytes = textFile("/proc/meminfo")?.split(separator: "\n").first?.split(separator: " ").dropFirst().first
        return Machine(
            processor: processor.map { afterSeparator($0, ":") } ?? "unknown",
            cpus: sysconf(Int32(_SC_NPROCESSORS_ONLN)),
            memory: ((kilobytes.flatMap { Double($0) } ?? 0) / 104_857.6).rounded() / 10,
            kernel: (textFile("/proc/sys/kernel/osrelease") ?? "").filter { !$0.isWhitespace },
            system: release.map { afterSeparator($0, "=").filter { $0 != "\"" } } ?? "unknown",
            date: Date.now.formatted(.iso8601), fastnat: version,
            tools: toolVersions(), offloads: offloads(),
            load: textFile("/proc/loadavg")?.split(separator: " ").first.flatMap { Double($0) } ?? 0,
            readNanoseconds: measured(cbench_read_nanoseconds(256 << 20)),
            lineNanoseconds: measured(cbench_line_nanoseconds(0, 1)))
    }

    private static func measured(_ nanoseconds: Double) -> Double? { nanoseconds < 0 ? nil : nanoseconds.rounded() }

    /// How far away memory and the other CPU are, which ratios depend on; nil where neither is known.
    var distances: String? {
        let read = readNanoseconds.map { "a random read of 256 MiB takes \(fixed($0, 0)) ns" }
        let line = lineNanoseconds.map { "a cache line from CPU to CPU and back \(fixed($0, 0)) ns" }
        let known = [read, line].compactMap(\.self)
        return known.isEmpty ? nil : known.joined(separator: ", ")
    }

    private static func afterSeparator(_ line: Substring, _ separator: Character) -> String {
        String(line.split(separator: separator, maxSplits: 1).last ?? "").trimmed
    }

    private static func toolVersions() -> [String: String] {
        let commands = [
            "iptables": ["iptables-nft", "--version"], "iptables-legacy": ["iptables-legacy", "--version"],
            "nftables": ["nft", "--version"], "iperf3": ["iperf3", "--version"],
            "docker-proxy": ["docker-proxy", "--version"],
            "iproute2": ["ip", "-V"],
        ]
        return commands.compactMapValues { command in
            guard let result = try? ChildProcess(command).wait(timeout: .seconds(5)) else { return nil }
            let line = (result.output + result.errors).split(separator: "\n").first.map(String.init) ?? ""
            return line.split(separator: " ").first { $0.contains { $0.isNumber } && $0.contains(".") }.map(String.init)
        }
    }

    /// Those of a veth just made: the topology changes none of them on the client's side, except to imitate a wire.
    private static func offloads() -> [String] {
        guard let topology = try? Topology(.direct),
            let result = try? topology.host.command(["ethtool", "-k", topology.uplinks[0]])
        else { return [] }
        let wanted = [
            "tx-checksumming", "rx-checksumming", "scatter-gather", "tcp-segmentation-offload",
            "generic-segmentation-offload",
            "generic-receive-offload",
        ]
        return result.output.split(separator: "\n").compactMap { line in
            let words = line.split(separator: ":")
            guard words.count == 2, words[1].trimmed.hasPrefix("on") else { return nil }
            let name = words[0].trimmed
            return wanted.contains(name) ? name : nil
        }
    }
}

extension StringProtocol {
    /// Without white space at its ends.
    var trimmed: String {
        guard let first = firstIndex(where: { !$0.isWhitespace }), let last = lastIndex(where: { !$0.isWhitespace })
        else { return "" }
        return String(self[first...last])
    }
}
