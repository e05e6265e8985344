import FastNATTesting
import Foundation
import Testing

/// Debian's podman in a host of the test's own: its images, containers and settings are in file systems in memory that nobody
/// else sees, and go with it.
final class Podman: Sendable {
    private let host: NetworkNamespace
    /// A process in a mount namespace of its own, which lasts as long as this object.
    private let holder: ChildProcess

    /// Programs that `make test` takes out of their packages.
    private static let programs = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: ".build/test").path

    /// Whether podman and what it needs are there.
    static let isInstalled = ["\(programs)/podman", "\(programs)/busybox", "/usr/bin/conmon", "/usr/bin/crun"]
        .allSatisfy { FileManager.default.isExecutableFile(atPath: $0) }

    /// Starts nothing yet; imports the image `busybox`, with a network of bridge and fastnat.
    ///
    /// - Parameter options: fastnat's, in the network configuration.
    init(_ host: NetworkNamespace, options: [String: Any]) throws {
        self.host = host
        try FastnatJanitor.watch(host)
        // fastnat keeps its state where the oldest ancestor lives that it may look at. Where process 1 may not be looked at, that
        // must not be conmon, which has podman clean up after a container.
        try adoptOrphans()
        // crun knows cgroup v1 and v2, but not both at once.
        holder = try host.spawn([
            "unshare", "--mount", "--propagation", "private", "sh", "-c",
            """
            umount /sys/fs/cgroup/unified 2>/dev/null
            for directory in /var/lib /run /dev/shm; do mount -t tmpfs tmpfs $directory || exit; done
            mkdir -p /run/lock \(Self.directory)/rootfs/bin \(Self.directory)/rootfs/www \
                \(Self.directory)/networks \(Self.directory)/plugins
            echo '\(Self.page)' >\(Self.directory)/rootfs/www/index.html
            cp -a /etc/containers \(Self.directory) && mount --bind \(Self.directory)/containers /etc/containers
            echo ready && exec sleep infinity
            """,
        ])
        try holder.waitUntil(printed: "ready")
        try command(
            "cp \(Self.programs)/busybox \(Self.directory)/rootfs/bin/ && "
                + "ln -s \(FastnatPath.defaultBinary) \(Self.directory)/plugins/fastnat-cni && "
                + "cat > /etc/containers/containers.conf", input: Self.configuration)
        let network = try JSONSerialization.data(withJSONObject: Self.network(options))
        try command(
            "cat > \(Self.directory)/networks/10-testnet.conflist", input: String(decoding: network, as: UTF8.self))
        try command("tar -C \(Self.directory)/rootfs -c . | \(Self.podman) import - busybox")
    }

    deinit { _ = try? run("rm", "-fa", "-t", "0") }

    /// Runs podman; what it says on an error fails the test.
    @discardableResult
    func run(_ arguments: String..., check: Bool = true) throws -> CommandResult {
        try command("\(Self.podman) \(arguments.joined(separator: " "))", check: check)
    }

    /// What is in `/www` of the image.
    static let page = "a page in a container"

    private static let directory = "/run/podman-test"
    private static let podman = """
        \(programs)/podman --root \(directory)/root --runroot \(directory)/run \
        --tmpdir \(directory)/tmp --storage-driver vfs
        """

    private static let configuration = """
        [engine]
        cgroup_manager = "cgroupfs"
        events_logger = "none"
        runtime = "crun"
        [network]
        network_backend = "cni"
        cni_plugin_dirs = ["\(directory)/plugins", "\(CNIRuntime.path)"]
        network_config_dir = "\(directory)/networks"
        default_network = "testnet"
        [containers]
        cgroups = "disabled"
        default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]

        """

    private static func network(_ options: [String: Any]) -> [String: Any] {
        let ipam: [String: Any] = [
            "type": "host-local", "ranges": [[["subnet": "10.88.0.0/16", "gateway": "10.88.0.1"]]],
            "routes": [["dst": "0.0.0.0/0"]],
        ]
        let bridge: [String: Any] = ["type": "bridge", "bridge": "cni-podman0", "isGateway": true, "ipam": ipam]
        let fastnat = ["type": "fastnat-cni", "capabilities": ["portMappings": true]].merging(options) { $1 }
        return ["cniVersion": "0.4.0", "name": "testnet", "plugins": [bridge, fastnat]]
    }

    /// Runs a shell command beside podman.
    @discardableResult
    private func command(_ text: String, input: String = "", check: Bool = true) throws -> CommandResult {
        try host.command(
            ["nsenter", "--mount=/proc/\(holder.identifier)/ns/mnt", "--", "sh", "-c", text], input: Array(input.utf8),
            timeout: .seconds(120), check: check)
    }
}
