import CLinux
import Glibc
import Synchronization

/// A named network namespace, so that `ip netns exec` finds it; gone when closed, released or this process ends.
public final class NetworkNamespace: Sendable {
    /// How a program gets into the namespace.
    public enum Entry: Sendable {
        /// `nsenter --net`: every mount stays visible.
        case nsenter
        /// `ip netns exec`: a fresh /sys, so that pins in /sys/fs/bpf are hidden.
        case ipNetnsExec
    }

    /// The name under /run/netns.
    public let name: String
    /// What `nsenter --net=` takes.
    public var path: String { "/run/netns/\(name)" }

    private let isOpen = Mutex(true)

    /// Creates a namespace whose random name contains `label`, with `lo` up.
    public init(_ label: String = "ns") throws(TestingError) {
        name = Cleanup.uniqueName(label)
        clinux_cleanup_add_path("/run/netns/\(name)")
        try ChildProcess(["ip", "netns", "add", name]).wait().check()
        // Interfaces copy the defaults when they are made: no tentative addresses, no solicitations, no source checks.
        for (key, value) in [
            ("ipv6/conf/%/accept_dad", "0"), ("ipv6/conf/%/accept_ra", "0"), ("ipv4/conf/%/rp_filter", "0"),
        ] {
            for scope in ["all", "default"] {
                try setSystemControl("net/" + key.replacing("%", with: scope), value)
            }
        }
        try command(["ip", "link", "set", "lo", "up"])
    }

    deinit { close() }

    /// Kills what runs inside and deletes the namespace. May be called again.
    public func close() {
        isOpen.withLock { isOpen in
            guard isOpen else { return }
            isOpen = false
            Cleanup.killProcesses(inNamespaceAt: path)
            clinux_delete_network_namespace(path)
            clinux_cleanup_forget_path(path)
        }
    }

    /// Runs `body` on a thread of its own inside the namespace, and waits for it. Sockets made there stay there.
    public func run<R>(_ body: () throws(TestingError) -> R) throws(TestingError) -> R {
        let path = path
        return try onNewThread { () throws(TestingError) in
            _ = try checked("setns \(path)", clinux_enter_network_namespace(path))
            return try body()
        }
    }

    /// Runs a program inside to its end; a status other than 0 is an error unless `check` is false.
    @discardableResult
    public func command(
        _ arguments: [String], via entry: Entry = .nsenter, input: [UInt8] = [],
        environment: [String: String] = [:], timeout: Duration = .seconds(30), check: Bool = true
    ) throws(TestingError) -> CommandResult {
        let child = try spawn(arguments, via: entry, input: input, environment: environment)
        let result = try child.wait(timeout: timeout)
        if check { try result.check() }
        return result
    }

    /// Starts a program inside, which ends with the object that is returned.
    public func spawn(
        _ arguments: [String], via entry: Entry = .nsenter, input: [UInt8] = [],
        environment: [String: String] = [:]
    ) throws(TestingError) -> ChildProcess {
        let wrapper =
            switch entry {
            case .nsenter: ["nsenter", "--net=\(path)", "--"]
            case .ipNetnsExec: ["ip", "netns", "exec", name]
            }
        return try ChildProcess(arguments, wrapper: wrapper, input: input, environment: environment)
    }

    /// Sets a network sysctl by its dotted name, such as `net.ipv4.ip_forward`. Slashes keep a dot in a device's name.
    public func setSystemControl(_ name: String, _ value: String) throws(TestingError) {
        let file = "/proc/sys/" + (name.contains("/") ? name : name.replacing(".", with: "/"))
        try run { () throws(TestingError) in
            let descriptor = try checked("open \(file)", open(file, O_WRONLY | O_CLOEXEC))
            defer { _ = Glibc.close(descriptor) }
            _ = try checked("write \(file)", Int32(write(descriptor, value, value.utf8.count)))
        }
    }

    /// The lines of a file in the namespace's own /proc/net.
    public func procNet(_ file: String) throws(TestingError) -> [Substring] {
        try run { () throws(TestingError) in
            let path = "/proc/thread-self/net/\(file)"
            let descriptor = try checked("open \(path)", open(path, O_RDONLY | O_CLOEXEC))
            defer { _ = Glibc.close(descriptor) }
            var text: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 65_536)
            while case let count = read(descriptor, &chunk, chunk.count), count > 0 { text += chunk[..<count] }
            return String(decoding: text, as: UTF8.self).split(separator: "\n")
        }
    }
}

extension CommandResult {
    /// Throws `.commandFailed` unless the status is 0.
    public func check() throws(TestingError) {
        if !succeeded { throw .commandFailed(self) }
    }
}

/// Runs `body` on a new thread and waits: what it changes about its thread (its namespace) ends with it.
private func onNewThread<R>(_ body: () throws(TestingError) -> R) throws(TestingError) -> R {
    var outcome: Result<R, TestingError>?
    let failure: Int32 = withoutActuallyEscaping({
        do throws(TestingError) { outcome = .success(try body()) } catch { outcome = .failure(error) }
    }) { task in
        let box = ThreadTask(task)
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<ThreadTask>.fromOpaque(argument).takeUnretainedValue().body() }
                return nil
            }, Unmanaged.passUnretained(box).toOpaque())
        if failure == 0 { pthread_join(thread, nil) }
        box.body = {}
        return failure
    }
    guard let outcome else { throw .system(call: "pthread_create", errno: failure) }
    return try outcome.get()
}

private final class ThreadTask {
    var body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
}
