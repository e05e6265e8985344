internal import ArgumentParser
internal import Docker
internal import FastNAT
internal import Glibc
internal import Logging

/// `fastnat docker`
struct DockerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "docker",
        abstract: "Publish what Docker's containers publish, and masquerade its networks.",
        discussion: """
            Runs until it gets SIGTERM or SIGINT; what is published then stays. SIGHUP synchronizes anew. Mappings and masquerades \
            of others are left alone. fastnat load comes first.

            Labels of containers: fastnat.enable=false, fastnat.allow=10.0.0.0/8,192.0.2.7, fastnat.limit-flows=100 and the like.
            """)

    @Option(help: "Docker's socket.")
    var socket = DockerEngine.defaultSocket

    @Flag(help: "Synchronize once, and end.")
    var once = false

    @Flag(help: "Print what would change, and change nothing.")
    var dryRun = false

    @Flag(help: "With --dry-run: print one JSON array.")
    var json = false

    @Option(name: .customLong("iface"), help: "The uplink for masquerading. Default: that of the default route.")
    var uplink: String?

    @Flag(name: .customLong("no-masquerade"), help: "Leave connections that containers begin to Docker's own rules.")
    var leavesMasquerading = false

    @Option(
        name: .customLong("masquerade"),
        help: "Masquerade this network of Docker's also when Docker says no, as it does of bridge with iptables=false.")
    var masqueraded: [String] = []

    @Option(
        help: "The first part of the owner of everything that is added, NAME:ID. A second Docker needs another one.")
    var owner = "docker"

    @Flag(help: "Publish also what a local program other than Docker's listens on.")
    var force = false

    @Option(help: "Log messages of this level and above: debug, info, notice, warning, error.")
    var logLevel = LogLevel.info

    func validate() throws {
        if json && !dryRun { throw ValidationError("--json belongs to --dry-run") }
    }

    func run() throws {
        var owners: DockerOwners?
        try reporting { () throws(FastNATError) in
            do throws(MappingError) { owners = try DockerOwners(owner) } catch { throw .mapping(error) }
        }
        guard let owners else { return }
        var synchronizer = Synchronizer(of: owners)
        synchronizer.uplink = uplink
        synchronizer.masquerades = !leavesMasquerading
        synchronizer.masqueraded = Set(masqueraded)
        synchronizer.force = force
        let engine = DockerEngine(socket: socket)
        if once || dryRun {
            try synchronizeOnce(engine, synchronizer)
        } else {
            follow(engine, synchronizer)
        }
    }

    private func synchronizeOnce(_ engine: DockerEngine, _ synchronizer: Synchronizer) throws {
        let wanted = try publications(engine, synchronizer.owners)
        var changes: [SynchronizationResult.Change] = []
        try reporting { () throws(FastNATError) in
            let result =
                dryRun
                ? try synchronizer.differences(to: wanted)
                : try synchronizer.synchronize(wanted, looksFirst: false)
            for refusal in result.refusals {
                complain("fastnat: \(refusal.subject): \(refusal.what) is left out: \(refusal.reason)")
            }
            changes = dryRun ? result.changes : []
        }
        if json { return try printJSON(changes.map(DockerChangeRecord.init)) }
        for change in changes { print("\(change.text) \(change.owner)\(change.name.map { " (\($0))" } ?? "")") }
    }

    private func publications(_ engine: DockerEngine, _ owners: DockerOwners) throws -> Publications {
        let answer = waiting { () -> Result<Publications, DockerError> in
            do throws(DockerError) { return .success(try await engine.publications(of: owners)) } catch {
                return .failure(error)
            }
        }
        switch answer {
        case .success(let publications): return publications
        case .failure(let error): complain("fastnat: \(error)")
        case nil: break
        }
        throw ExitCode(ExitStatus.unavailable.rawValue)
    }

    private func follow(_ engine: DockerEngine, _ synchronizer: Synchronizer) {
        let level = logLevel.level
        let log = Logger(label: "fastnat.docker") { _ in ServiceLog(level: level) }
        let manager = ServiceManager()
        // Half of what systemd waits: one look may be slow.
        let interval = min(.seconds(60), manager.watchdog.map { $0 / 2 } ?? .seconds(60))
        let follower = Follower(engine, synchronizer, every: interval, log: log)
        _ = waiting { await Self.run(follower, manager, log) }
    }

    private static func run(_ follower: Follower, _ manager: ServiceManager, _ log: Logger) async {
        let signals = Signals(SIGTERM, SIGINT, SIGHUP)
        let work = Task {
            await follower.run { summary in manager.notify("WATCHDOG=1", "STATUS=\(summary)") }
        }
        manager.notify("READY=1", "STATUS=waiting for Docker")
        for await number in signals.numbers {
            guard number == SIGHUP else { break }
            log.info("synchronizing anew, as SIGHUP asks")
            follower.resynchronize()
        }
        manager.notify("STOPPING=1")
        log.notice("ending; what is published stays")
        work.cancel()
        await work.value
    }
}

/// An element of `docker --dry-run --json`.
private struct DockerChangeRecord: Encodable {
    let change: String
    let what: String
    let owner: String
    let name: Nullable<String>

    init(_ change: SynchronizationResult.Change) {
        let state = StateChangeRecord(text: change.text)
        (self.change, what) = (state.change, state.what)
        owner = change.owner
        name = Nullable(value: change.name)
    }
}
