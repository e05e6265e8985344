import CLinux
import FoundationEssentials
import Glibc

/// What must not outlive this process, or a process like it that was killed.
///
/// A process has a random token that begins the names of its namespaces and of a lock file it holds while it lives. At exit
/// and on signals C code takes its own leftovers away, and the directory of lock files when it is the last; who starts takes
/// away those of tokens whose lock nobody holds.
package enum Cleanup {
    /// This process's token.
    package static let token: String = start()

    private static let installed: Void = clinux_cleanup_install()
    private static let directory = "/run/fastnat-testing"
    private static let namePrefix = "fnt-"

    /// Installs the exit and signal handlers, once.
    static func install() { installed }

    /// A name that no other namespace has: prefix, token, label.
    package static func uniqueName(_ label: String) -> String {
        "\(namePrefix)\(token)-\(label)-\(randomHex(digits: 8))"
    }

    private static func start() -> String {
        install()
        sweep()
        // Again if a sweep of somebody else's took the file between its making and its locking, or somebody else who ended
        // the directory.
        for _ in 0..<100 {
            mkdir(directory, 0o755)
            let token = randomHex(digits: 6)
            let path = "\(directory)/\(token).lock"
            guard lock(path, flags: O_CREAT | O_EXCL) != nil else { continue }
            clinux_cleanup_add_path(path)
            clinux_cleanup_set_directory(directory)
            return token
        }
        return randomHex(digits: 6)
    }

    /// Takes the lock of a token, which then lasts as long as the descriptor that is returned, or this process.
    private static func lock(_ path: String, flags: Int32 = 0) -> Int32? {
        let file = open(path, O_RDWR | O_CLOEXEC | flags, 0o644)
        if file < 0 { return nil }
        if flock(file, LOCK_EX | LOCK_NB) == 0 { return file }
        close(file)
        return nil
    }

    /// Deletes the namespaces of processes that died without doing so.
    private static func sweep() {
        for name in entries(directory) where name.hasSuffix(".lock") {
            guard let file = lock("\(directory)/\(name)") else { continue }
            let stale = namePrefix + name.dropLast(".lock".count) + "-"
            for namespace in entries("/run/netns") where namespace.hasPrefix(stale) {
                killProcesses(inNamespaceAt: "/run/netns/\(namespace)")
                clinux_delete_network_namespace("/run/netns/\(namespace)")
            }
            unlink("\(directory)/\(name)")
            close(file)
        }
    }

    /// Kills every process whose network namespace is the one at `path`, which must be one of ours.
    static func killProcesses(inNamespaceAt path: String) {
        guard let wanted = identity(path) else { return }
        for entry in entries("/proc") {
            guard let process = Int32(entry), process > 1, process != getpid() else { continue }
            if let found = identity("/proc/\(process)/ns/net"), found == wanted { kill(process, SIGKILL) }
        }
    }

    private static func identity(_ path: String) -> [UInt]? {
        var status = stat()
        return stat(path, &status) == 0 ? [UInt(status.st_dev), UInt(status.st_ino)] : nil
    }

    private static func entries(_ path: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    }

    private static func randomHex(digits: Int) -> String {
        String((0..<digits).map { _ in "0123456789abcdef".randomElement() ?? "0" })
    }
}
