import FoundationEssentials
import Glibc
public import Lab

/// Debian's dockerd in a network namespace, with process, mount and control group trees of its own, and images that it made
/// itself. Gone, with all that it made, when this object is, or this process.
public final class DockerDaemon: Sendable {
    /// What dockerd may do to the packet filter.
    public enum Mode: String, Sendable, CaseIterable {
        /// As it comes: rules of iptables, and a proxy for each port.
        case unmodified
        /// Neither.
        case withoutRules = "without-rules"

        var options: [String] { self == .unmodified ? [] : ["--iptables=false", "--userland-proxy=false"] }
    }

    /// The image that there is: a static busybox.
    public static let image = "busybox:test"

    /// The namespace that dockerd runs in.
    public let namespace: NetworkNamespace
    /// Where it listens.
    public var socket: String { "\(directory)/docker.sock" }

    private let directory: String
    private let process: ChildProcess
    private static let engine = packageRoot.appending(path: ".build/docker").path

    /// Whether there can be one here.
    public static var isAvailable: Bool {
        access("\(engine)/usr/sbin/dockerd", X_OK) == 0 && access("\(engine)/bin/busybox", X_OK) == 0
    }

    /// Starts dockerd and waits until it answers.
    ///
    /// - Parameter options: further ones of dockerd.
    public init(in namespace: NetworkNamespace, _ mode: Mode, options: [String] = []) throws(TestingError) {
        self.namespace = namespace
        let name = Cleanup.uniqueName("docker")
        directory = "/tmp/\(name)"
        let arguments = ["--cgroup-parent", "/\(name)", "--log-level", "warn"] + mode.options + options
        try ChildProcess(["mkdir", "-p", "\(directory)/tmp"]).wait().check()
        let script = DockerScript.supervisor
        process = try namespace.spawn(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
                + ["sh", "-c", script, "sh", directory, Self.engine] + arguments,
            environment: ["PATH": Self.path, "TMPDIR": "\(directory)/tmp"])
        try Self.watch(directory, process.identifier)
        try awaitAnswer()
        try importImage()
    }

    deinit { stop() }

    /// Kills dockerd and every container, and removes what they have left.
    public func stop() {
        process.terminate(grace: .zero)
        _ = try? ChildProcess(["sh", "-c", DockerScript.removal, "sh", directory]).wait()
    }

    /// Runs Docker's own command line.
    @discardableResult
    public func docker(
        _ arguments: [String], timeout: Duration = .seconds(60), check: Bool = true
    ) throws(TestingError) -> CommandResult {
        let environment = ["DOCKER_CONFIG": directory, "DOCKER_HOST": "unix://\(socket)"]
        let result = try ChildProcess(["\(Self.engine)/usr/bin/docker"] + arguments, environment: environment)
            .wait(timeout: timeout)
        if check { try result.check() }
        return result
    }

    /// The same, with the arguments one by one.
    @discardableResult
    public func docker(_ arguments: String...) throws(TestingError) -> CommandResult { try docker(arguments) }

    /// Starts a container that answers HTTP requests on these ports with its name.
    public func run(
        _ name: String, _ options: [String] = [], ports: [UInt16] = [80], timeout: Duration = .seconds(60)
    ) throws(TestingError) {
        let servers = ports.map { "httpd -h /www -p \($0)" }.joined(separator: "; ")
        let program = "mkdir -p /www; echo \(name) >/www/index.html; \(servers); exec sleep 100000"
        try docker(
            ["run", "--detach", "--init", "--name", name] + options + [Self.image, "sh", "-c", program],
            timeout: timeout)
    }

    /// Removes containers at once.
    public func remove(_ names: String...) throws(TestingError) { try docker(["rm", "--force"] + names) }

    /// The address of a container.
    public func address(of name: String, in network: String = "bridge") throws(TestingError) -> String {
        let format = "{{(index .NetworkSettings.Networks \"\(network)\").IPAddress}}"
        return try docker("inspect", "--format", format, name).output
    }

    /// Starts a server in the network namespace of a container that sends datagrams back, and waits until it is there. It ends
    /// with the object that is returned.
    public func serveUDP(on port: UInt16, in name: String) throws(TestingError) -> ChildProcess {
        let id = try docker("inspect", "--format", "{{.Id}}", name).output
        let ready = "print('ready')\n"
        let script = Script.udp(reply: "data").replacing("while True:", with: ready + "while True:")
        let server = try ChildProcess(["sh", "-c", DockerScript.entry, "sh", id] + Script.python(script, "\(port)"))
        try server.waitUntil(printed: "ready")
        return server
    }

    /// Sends a datagram out of the container's network namespace.
    public func sendUDP(to address: String, port: UInt16, in name: String) throws(TestingError) {
        let id = try docker("inspect", "--format", "{{.Id}}", name).output
        let send = ["bash", "-c", "echo > /dev/udp/\(address)/\(port)"]
        try namespace.command(["sh", "-c", DockerScript.entry, "sh", id] + send)
    }

    /// Sends a signal to dockerd, which is started again when it ends.
    public func signal(_ number: Int32) throws(TestingError) {
        try namespace.command(["sh", "-c", DockerScript.signal, "sh", "\(number)"])
    }

    /// Waits until dockerd answers.
    public func awaitAnswer() throws(TestingError) {
        try awaitCondition("dockerd: \(process.errors.suffix(2000))", timeout: .seconds(60)) {
            () throws(TestingError) in
            guard process.isRunning else { throw .commandFailed(try process.wait()) }
            return try docker(["version"], check: false).succeeded
        }
    }

    private func importImage() throws(TestingError) {
        let tree = "\(directory)/image"
        let links = "for name in sh httpd sleep nc ip ping cat; do ln -s busybox $1/bin/$name; done"
        try ChildProcess(
            [
                "sh", "-c", "mkdir -p $1/bin && cp $2 $1/bin/ && \(links) && tar -C $1 -c . -f $1.tar", "sh", tree,
                "\(Self.engine)/bin/busybox",
            ]
        ).wait().check()
        try docker("import", "\(tree).tar", Self.image)
    }

    private static var path: String {
        let known = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        return "\(engine)/usr/sbin:\(engine)/usr/bin:\(known):/usr/sbin:/sbin"
    }

    /// Has the daemon killed and its leavings removed should this process end without doing so: a shell in a session of its own
    /// waits for the lock that this process holds while it lives.
    private static func watch(_ directory: String, _ process: Int32) throws(TestingError) {
        let lock = "/run/fastnat-testing/\(Cleanup.token).lock"
        let script = "grep -q \(directory) /proc/\(process)/cmdline 2>/dev/null && kill -KILL \(process)\n"
        _ = try ChildProcess(
            ["setsid", "--fork", "flock", lock, "sh", "-c", script + DockerScript.removal, "sh", directory]
        ).wait()
    }
}

/// Where the package is.
private var packageRoot: URL {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
}

/// The shell programs of a dockerd under test. Their first argument is its directory, whose name its control group has, too.
private enum DockerScript {
    /// The first process of the daemon's namespace. What the machine has under /run and /sys is hidden from it.
    static let supervisor = """
        directory=$1 engine=$2
        shift 2
        mount -t tmpfs tmpfs /run
        umount -l /sys
        mount -t sysfs sysfs /sys
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        echo '{}' >"$directory/daemon.json"
        while [ -d "$directory" ]; do
            rm -f "$directory/docker.pid"
            dockerd --config-file "$directory/daemon.json" --data-root "$directory/data" --exec-root "$directory/exec" \\
                --pidfile "$directory/docker.pid" --host "unix://$directory/docker.sock" --storage-driver vfs \\
                --exec-opt native.cgroupdriver=cgroupfs "$@"
            sleep 0.1
        done
        """

    /// Control groups are seen in any mount of their file system; a process that is still dying keeps its own.
    static let removal = """
        unshare --mount --propagation private sh -c '
            mount -t cgroup2 cgroup2 /mnt || exit
            for attempt in $(seq 100); do
                [ -d "/mnt/$1" ] || break
                find "/mnt/$1" -depth -type d -exec rmdir {} + 2>/dev/null && break
                sleep 0.05
            done' sh "$(basename "$1")"
        rm -rf "$1"
        """

    /// Arguments: container, command.
    static let entry = """
        id=$1
        shift
        for group in $(grep -l "$id" /proc/[0-9]*/cgroup 2>/dev/null); do
            exec nsenter --net="${group%/cgroup}/ns/net" -- "$@"
        done
        echo "no process of $id" >&2
        exit 1
        """

    /// Argument: the signal, for the dockerd whose network namespace this is.
    static let signal = """
        for process in /proc/[0-9]*; do
            [ "$(cat "$process/comm" 2>/dev/null)" = dockerd ] && [ "$process/ns/net" -ef /proc/self/ns/net ] &&
                kill "-$1" "${process#/proc/}"
        done
        true
        """
}
