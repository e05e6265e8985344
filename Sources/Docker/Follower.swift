internal import Addresses
internal import FastNAT
public import Logging
internal import NIOPosix
internal import Synchronization

/// Keeps fastnat equal to what Docker's containers publish, as long as it runs.
public final class Follower: Sendable {
    private let engine: DockerEngine
    private let synchronizer: Synchronizer
    private let log: Logger
    /// How often it looks without being told to: somebody may have unloaded fastnat, or changed what is Docker's.
    private let interval: Duration
    private let deaths = Mutex(Deaths())
    /// When something has happened last, as long as Docker may not have written it into its lists yet.
    private let unsettled = Mutex<ContinuousClock.Instant?>(nil)
    /// At most one wish: whoever synchronizes sees everything that happened before.
    private let wishes: AsyncStream<Void>
    private let wish: AsyncStream<Void>.Continuation

    /// One that follows this Docker.
    public init(_ engine: DockerEngine, _ synchronizer: Synchronizer, every interval: Duration, log: Logger) {
        self.engine = engine
        self.synchronizer = synchronizer
        self.interval = interval
        self.log = log
        (wishes, wish) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Synchronizes soon.
    public func resynchronize() { wish.yield() }

    /// Follows until the task is cancelled. What is published then stays so.
    ///
    /// - Parameter attempted: called after each attempt to synchronize, successful or not: a sign of life.
    public func run(attempted: @Sendable (_ summary: String) -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.listen() }
            group.addTask { await self.tick() }
            var diary = Diary(log)
            var backoff = Backoff()
            for await _ in wishes {
                let succeeded = await synchronize(&diary)
                attempted(diary.summary)
                if succeeded {
                    backoff.reset()
                } else {
                    try? await Task.sleep(for: backoff.next())
                    wish.yield()
                }
            }
            group.cancelAll()
        }
    }

    private func tick() async {
        while (try? await Task.sleep(for: interval)) != nil { wish.yield() }
    }

    /// Has every event synchronized, and everything anew when events may have been missed.
    private func listen() async {
        let backoff = Mutex(Backoff())
        var isKnownToFail = false
        while !Task.isCancelled {
            do throws(DockerError) {
                try await engine.readEvents {
                    log.notice("following Docker", metadata: ["socket": "\(engine.socket)"])
                    backoff.withLock { $0.reset() }
                    deaths.withLock { $0.absent = [] }
                    wish.yield()
                } _: { event in
                    note(event)
                }
                if !Task.isCancelled { log.notice("Docker has ended its events; what is published stays") }
                isKnownToFail = false
            } catch {
                if Task.isCancelled { return }
                log.log(level: isKnownToFail ? .debug : .warning, "\(error); what is published stays")
                isKnownToFail = true
            }
            try? await Task.sleep(for: backoff.withLock { $0.next() })
        }
    }

    private func note(_ event: EngineEvent) {
        let id = event.actor?.id ?? ""
        log.debug("event", metadata: ["type": "\(event.type ?? "")", "action": "\(event.action ?? "")", "id": "\(id)"])
        if event.type == "container", let owner = synchronizer.owners.owner(of: id) {
            deaths.withLock { $0.note(event.action, of: owner) }
        }
        wish.yield()
        let isFirst = unsettled.withLock { last in
            defer { last = .now }
            return last == nil
        }
        if isFirst { Task { await settle() } }
    }

    /// Synchronizes once more when nothing has happened for a second: Docker tells of some changes before its lists have them, and
    /// not again when they do.
    private func settle() async {
        let period = Duration.seconds(1)
        var isSettled = false
        while !isSettled {
            guard (try? await Task.sleep(for: period)) != nil else { return }
            isSettled = unsettled.withLock { last in
                guard let instant = last, ContinuousClock.now - instant < period else {
                    last = nil
                    return true
                }
                return false
            }
        }
        wish.yield()
    }

    private func synchronize(_ diary: inout Diary) async -> Bool {
        let (dead, freed) = deaths.withLock { deaths in
            defer { deaths.died = [] }
            return (deaths.died, deaths.freed)
        }
        do {
            let listed = try await engine.publications(of: synchronizer.owners)
            let wanted = listed.without(deaths.withLock { $0.absent })
            let synchronizer = synchronizer
            // It waits for locks: not on a thread that others need.
            let result = try await NIOThreadPool.singleton.runIfActive {
                try synchronizer.synchronize(wanted, died: dead, freed: freed)
            }
            deaths.withLock { $0.note(listed) }
            diary.note(result)
            return true
        } catch DockerError.unreachable(let socket, let problem) {
            // Whoever listens for events knows when it is back.
            deaths.withLock { $0.died.formUnion(dead) }
            diary.wait("waiting for Docker at \(socket): \(problem)")
            return true
        } catch {
            deaths.withLock { $0.died.formUnion(dead) }
            if !Task.isCancelled { diary.note(error) }
            return false
        }
    }
}

/// What events have said of containers that died.
private struct Deaths {
    /// Owners of those that died since the last synchronization.
    var died: Set<MappingOwner> = []
    /// Those that were not started since: Docker lists a container as running until it has tidied up behind it.
    var absent: Set<MappingOwner> = []
    /// What containers have had since they were listed first: of one that has died, Docker tells no address.
    private var addresses: [MappingOwner: Set<IPAddress>] = [:]

    /// The addresses of those that died.
    var freed: Set<IPAddress> { died.reduce(into: []) { $0.formUnion(addresses[$1] ?? []) } }

    mutating func note(_ listed: Publications) {
        addresses = addresses.filter { died.contains($0.key) || listed.addresses[$0.key] != nil }
        addresses.merge(listed.addresses) { died, listed in listed.isEmpty ? died : listed }
    }

    mutating func note(_ action: String?, of owner: MappingOwner) {
        switch action {
        case "die":
            died.insert(owner)
            absent.insert(owner)
        case "start", "destroy": absent.remove(owner)
        default: break
        }
    }
}
