internal import CLinux
internal import Glibc

/// The mount namespace where fastnat keeps its state, and the way into it.
///
/// `ip netns exec` gives a command a mount namespace of its own, and a file system mounted there dies with the command. So
/// state is kept where the oldest of our ancestors that we may look at lives: as a rule, that is process 1. The kernel shows
/// its files under /proc/PID/root; only mounting needs to go there.
struct HomeNamespace: ~Copyable {
    /// What to put before an absolute path; empty when we are at home.
    let prefix: String
    /// Its mounts, as /proc shows them.
    let mounts: String
    /// An open mount namespace, or -1 when we are at home.
    let mountNamespace: Int32

    init() {
        let here = Self.mountNamespaceIdentity(of: "self")
        let ancestor = Self.ancestors().last { Self.mountNamespaceIdentity(of: $0) != nil }
        guard let ancestor, Self.mountNamespaceIdentity(of: ancestor) != here else {
            prefix = ""
            mounts = "/proc/self/mountinfo"
            mountNamespace = -1
            return
        }
        mountNamespace = open("/proc/\(ancestor)/ns/mnt", O_RDONLY | O_CLOEXEC)
        prefix = mountNamespace >= 0 ? "/proc/\(ancestor)/root" : ""
        mounts = "/proc/\(mountNamespace >= 0 ? ancestor : "self")/mountinfo"
    }

    deinit {
        if mountNamespace >= 0 { close(mountNamespace) }
    }

    /// Ourselves, our parent, and so on up to process 1.
    private static func ancestors() -> [String] {
        var chain: [String] = []
        var process = getpid()
        while process > 0, chain.count < 128 {
            chain.append(String(process))
            guard let parent = parent(of: process) else { break }
            process = parent
        }
        return chain
    }

    /// The fourth word of /proc/PID/stat; the second, a name in brackets, may hold anything.
    private static func parent(of process: pid_t) -> pid_t? {
        guard let file = fopen("/proc/\(process)/stat", "r") else { return nil }
        defer { fclose(file) }
        var buffer = [CChar](repeating: 0, count: 1024)
        guard fgets(&buffer, Int32(buffer.count), file) != nil else { return nil }
        let text = buffer.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
        guard let bracket = text.lastIndex(of: ")") else { return nil }
        let words = text[text.index(after: bracket)...].split(separator: " ")
        return words.count > 1 ? pid_t(words[1]) : nil
    }

    private static func mountNamespaceIdentity(of process: String) -> UInt64? {
        var status = stat()
        return stat("/proc/\(process)/ns/mnt", &status) == 0 ? UInt64(status.st_ino) : nil
    }
}
