import CLinux
import FoundationEssentials
import Glibc
import Synchronization

/// A program running in a process group of its own, its output collected in memory.
///
/// The group ends with its leader, and the leader with this object: only a child that made its own session survives.
public final class ChildProcess: Sendable {
    /// The process, which also leads its process group.
    public let identifier: Int32
    /// The program and its arguments, as asked for.
    public let arguments: [String]

    private let outputFile: Int32
    private let errorFile: Int32
    private let ended: Int32
    private let status = Mutex<Int32?>(nil)

    /// Starts `wrapper` + `arguments`; `environment` adds to this process's own, `input` is its standard input.
    package init(
        _ arguments: [String], wrapper: [String] = [], input: [UInt8] = [], environment: [String: String] = [:]
    ) throws(TestingError) {
        Cleanup.install()
        self.arguments = arguments
        outputFile = try checked("memfd_create", clinux_anonymous_file("output"))
        errorFile = try checked("memfd_create", clinux_anonymous_file("errors"))
        let inputFile = try checked("memfd_create", clinux_anonymous_file("input"))
        defer { close(inputFile) }
        write(inputFile, input, input.count)
        lseek(inputFile, 0, SEEK_SET)

        let merged = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        identifier = try spawn(
            wrapper + arguments, environment: merged.map { "\($0)=\($1)" },
            descriptors: [inputFile, outputFile, errorFile])
        clinux_cleanup_add_group(identifier)
        ended = clinux_pidfd_open(identifier)
    }

    deinit {
        terminate()
        close(outputFile)
        close(errorFile)
        close(ended)
    }

    /// Everything written to standard output so far.
    public var outputBytes: [UInt8] { contents(of: outputFile) }

    /// Everything written to standard output so far, as text.
    public var output: String { String(decoding: outputBytes, as: UTF8.self) }

    /// Everything written to standard error so far.
    public var errors: String { String(decoding: contents(of: errorFile), as: UTF8.self) }

    /// Whether the program has not ended yet.
    public var isRunning: Bool { reap(waiting: .zero) == nil }

    /// Waits for the end; on a timeout the group is killed and `.timedOut` thrown. A status other than 0 is no error.
    public func wait(timeout: Duration = .seconds(30)) throws(TestingError) -> CommandResult {
        guard let status = reap(waiting: timeout) else {
            terminate(grace: .zero)
            throw .timedOut("`\(arguments.joined(separator: " "))` after \(timeout): \(errors)\(output)")
        }
        return CommandResult(arguments: arguments, status: status, outputBytes: outputBytes, errors: errors)
    }

    /// Sends a signal to the whole group, unless the program has ended.
    public func signal(_ number: Int32) {
        if isRunning { kill(-identifier, number) }
    }

    /// Ends the group: SIGTERM, and SIGKILL after `grace`.
    public func terminate(grace: Duration = .seconds(1)) {
        if grace > .zero {
            signal(SIGTERM)
            _ = reap(waiting: grace)
        }
        signal(SIGKILL)
        _ = reap(waiting: .seconds(5))
    }

    /// Waits until `text` appears in standard output or standard error.
    public func waitUntil(printed text: String, timeout: Duration = .seconds(10)) throws(TestingError) {
        try awaitCondition("'\(text)' from \(arguments): \(errors)\(output)", timeout: timeout) {
            () throws(TestingError) in
            let running = isRunning
            if output.contains(text) || errors.contains(text) { return true }
            if !running { throw .commandFailed(try wait()) }
            return false
        }
    }

    /// The exit status, once the program has ended; nil if it has not within `timeout`. What is left of its group is
    /// killed just before the leader is reaped: until then nobody else can have the number.
    private func reap(waiting timeout: Duration) -> Int32? {
        var descriptor = pollfd(fd: ended, events: Int16(POLLIN), revents: 0)
        poll(&descriptor, 1, timeout.milliseconds)
        return status.withLock { known in
            if known != nil || descriptor.revents == 0 { return known }
            var raw: Int32 = 0
            kill(-identifier, SIGKILL)
            clinux_cleanup_forget_group(identifier)
            waitpid(identifier, &raw, 0)
            let signal = raw & 0x7f
            known = signal == 0 ? (raw >> 8) & 0xff : 128 + signal
            return known
        }
    }
}

/// Makes daemons that programs of this process leave behind its own children, as a service manager does.
public func adoptOrphans() throws(TestingError) {
    _ = try checked("prctl", clinux_adopt_orphans())
}

/// Starts a program found through PATH with these three descriptors, as leader of a new group, default signals.
private func spawn(
    _ command: [String], environment: [String], descriptors: [Int32]
) throws(TestingError) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (target, source) in descriptors.enumerated() {
        posix_spawn_file_actions_adddup2(&actions, source, Int32(target))
    }
    clinux_spawn_close_from(&actions, 3)

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
        &attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    var identifier: pid_t = 0
    let result = withCStrings(command) { argv in
        withCStrings(environment) { envp in
            posix_spawnp(&identifier, command[0], &actions, &attributes, argv, envp)
        }
    }
    if result != 0 { throw .system(call: "start \(command.joined(separator: " "))", errno: result) }
    return identifier
}

/// Lends a null-terminated array of C strings.
private func withCStrings<R>(_ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R) -> R {
    let pointers = strings.map { strdup($0) }
    defer { pointers.forEach { free($0) } }
    return body(pointers + [nil])
}

/// A file's whole content, without moving the offset its writer shares.
private func contents(of file: Int32) -> [UInt8] {
    var status = stat()
    let size = fstat(file, &status) == 0 ? Int(status.st_size) : 0
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
        count = max(0, pread(file, buffer.baseAddress, size, 0))
    }
}

/// Turns -1 into the error errno names.
package func checked(_ call: String, _ result: Int32) throws(TestingError) -> Int32 {
    if result < 0 { throw .system(call: call, errno: errno) }
    return result
}
