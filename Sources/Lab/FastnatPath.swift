import FoundationEssentials

/// fastnat itself, through its command line.
public struct FastnatPath: MasqueradingPath {
    /// The hook.
    public enum Mode: String, Sendable, CaseIterable {
        /// XDP.
        case xdp
        /// TC.
        case tc
    }

    /// Such as `fastnat-xdp`.
    public var name: String { "fastnat-\(mode?.rawValue ?? "auto")" }

    private let host: NetworkNamespace
    private let uplinks: [String]
    private let binary: String
    private let mode: Mode?
    private let loadOptions: [String]

    /// Publishes in the host of this topology, on all its uplinks; `loadOptions` are further ones of `fastnat load`, which
    /// chooses the hook itself without a mode.
    public init(
        _ topology: Topology, mode: Mode?, loadOptions: [String] = [], binary: String = Self.defaultBinary
    ) {
        host = topology.host
        uplinks = topology.uplinks
        self.binary = binary
        self.mode = mode
        self.loadOptions = loadOptions
    }

    /// FASTNAT_BINARY from the environment, or the package's debug build.
    public static var defaultBinary: String {
        if let path = ProcessInfo.processInfo.environment["FASTNAT_BINARY"] { return path }
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        return root.deletingLastPathComponent().appending(path: ".build/debug/fastnat").path
    }

    /// Loads and attaches the datapath.
    public func start() throws(TestingError) {
        try run(loadArguments)
    }

    /// The command that `start` runs.
    public var loadArguments: [String] {
        ["load"] + uplinks.flatMap { ["--iface", $0] } + ["--mode", mode?.rawValue ?? "auto"] + loadOptions
    }

    /// `fastnat map add`.
    public func publish(
        _ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol
    ) throws(TestingError) {
        try run(["map", "add", key(port, transport), container.description])
    }

    /// `fastnat map add --file`.
    public func publish(_ ports: [PublishedPort]) throws(TestingError) {
        let lines = ports.map { "\(key($0.port, $0.transport)) \($0.container)\n" }
        try run(["map", "add", "--file", "-"], input: lines.joined())
    }

    /// `fastnat map rm`.
    public func unpublish(
        _ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol
    ) throws(TestingError) {
        try run(["map", "rm", key(port, transport)])
    }

    /// `fastnat masquerade add`.
    public func masquerade(_ family: Topology.Family) throws(TestingError) {
        try run(["masquerade", "add", Topology.containerNetwork(family), "--iface", uplinks[0]])
    }

    /// Detaches the datapath.
    public func stop() throws(TestingError) { try run(["unload"]) }

    /// Runs the command line in the host's namespace.
    @discardableResult
    public func run(
        _ arguments: [String], via entry: NetworkNamespace.Entry = .nsenter, input: String = "", check: Bool = true
    ) throws(TestingError) -> CommandResult {
        try FastnatJanitor.watch(host)
        return try host.command([binary] + arguments, via: entry, input: Array(input.utf8), check: check)
    }

    /// Starts the command line in the host's namespace.
    public func spawn(_ arguments: [String], input: String = "") throws(TestingError) -> ChildProcess {
        try FastnatJanitor.watch(host)
        return try host.spawn([binary] + arguments, input: Array(input.utf8))
    }

    /// The directory of what it has pinned (docs/state.md).
    public var pins: String {
        get throws(TestingError) { "/run/fastnat/bpf/\(try host.cookie)" }
    }

    private func key(_ port: UInt16, _ transport: TransportProtocol) -> String {
        transport == .tcp ? "\(port)" : "\(port)/\(transport.rawValue)"
    }
}
