internal import FastNAT
internal import Glibc

/// The sockets with which Docker itself holds published ports: docker-proxy's and, without a proxy, dockerd's own. A mapping takes
/// their place.
final class DockerSockets {
    private static let programs: Set<String> = ["docker-proxy", "dockerd"]

    /// Those that there were when one was asked for first: it takes a while to look through all processes, and of containers that
    /// Docker has told of before, they are all there.
    private lazy var inodes = Self.current()

    /// Whether the socket of this inode is one of them.
    func contains(_ inode: UInt32) -> Bool { inodes.contains(inode) }

    private static func current() -> Set<UInt32> {
        directoryEntries("/proc").reduce(into: []) { inodes, name in
            guard name.utf8.first.map(isDigit) == true else { return }
            guard let program = firstLine(of: "/proc/\(name)/comm"), programs.contains(program) else { return }
            let path = "/proc/\(name)/fd"
            let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard directory >= 0 else { return }
            defer { close(directory) }
            for descriptor in directoryEntries(path) {
                if let inode = socketInode(directory, descriptor) { inodes.insert(inode) }
            }
        }
    }
}

private func isDigit(_ byte: UInt8) -> Bool { UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte }

/// The inode of the socket that a link of /proc/PID/fd names, such as `socket:[4711]`; nil for anything else.
private func socketInode(_ directory: Int32, _ name: String) -> UInt32? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { link in
        guard let begin = link.baseAddress else { return nil }
        let text = UnsafeRawBufferPointer(link).prefix(max(0, readlinkat(directory, name, begin, link.count)))
        let prefix = "socket:[".utf8
        guard text.starts(with: prefix) else { return nil }
        return UInt32(String(decoding: text.dropFirst(prefix.count).dropLast(), as: UTF8.self))
    }
}

/// The first line of a small file; nil when it cannot be read.
private func firstLine(of path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var buffer = [UInt8](repeating: 0, count: 64)
    let count = read(file, &buffer, buffer.count)
    guard count > 0 else { return nil }
    return String(decoding: buffer[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
}
