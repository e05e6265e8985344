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
    /// Owners of containers that died since the last synchronization.
    private let died = Mutex<Set<MappingOwner>>([])
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
        if event.type == "container", event.action == "die", let owner = synchronizer.owners.owner(of: id) {
            died.withLock { _ = $0.insert(owner) }
        }
        wish.yield()
    }

    private func synchronize(_ diary: inout Diary) async -> Bool {
        let dead = died.withLock { dead in
            defer { dead = [] }
            return dead
        }
        do {
            let wanted = try await engine.publications(of: synchronizer.owners)
            let synchronizer = synchronizer
            // It waits for locks: not on a thread that others need.
            let result = try await NIOThreadPool.singleton.runIfActive {
                try synchronizer.synchronize(wanted, died: dead)
            }
            diary.note(result)
            return true
        } catch DockerError.unreachable(let socket, let problem) {
            // Whoever listens for events knows when it is back.
            died.withLock { $0.formUnion(dead) }
            diary.wait("waiting for Docker at \(socket): \(problem)")
            return true
        } catch {
            died.withLock { $0.formUnion(dead) }
            if !Task.isCancelled { diary.note(error) }
            return false
        }
    }
}
