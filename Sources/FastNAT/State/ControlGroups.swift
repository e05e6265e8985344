internal import Glibc

/// The path of the cgroup v2 hierarchy's root. It is looked for at home, because `ip netns exec` hides it from its command
/// behind a fresh /sys, and where it is mounted is the distribution's choice: /sys/fs/cgroup, or /sys/fs/cgroup/unified.
func controlGroupRoot(in home: borrowing HomeNamespace) -> String? {
    controlGroupMountPoint(in: lines(of: home.mounts)).map { home.prefix + $0 }
}

/// Reads the lines of a mountinfo file (proc_pid_mountinfo(5)): the mount point of a cgroup v2 file system, as a whole rather
/// than a part of it where there is one.
func controlGroupMountPoint(in mounts: [String]) -> String? {
    let found = mounts.compactMap { line -> (root: Substring, point: String)? in
        let words = line.split(separator: " ")
        guard let dash = words.firstIndex(of: "-"), dash + 1 < words.endIndex, words[dash + 1] == "cgroup2" else {
            return nil
        }
        return (words[3], unescaped(words[4]))
    }
    return (found.first { $0.root == "/" } ?? found.first)?.point
}

/// The kernel writes blanks and backslashes in paths as a backslash and three octal digits.
private func unescaped(_ path: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = Array(path.utf8)[...]
    while let byte = rest.popFirst() {
        let digits = String(decoding: rest.prefix(3), as: UTF8.self)
        if byte == UInt8(ascii: "\\"), digits.utf8.count == 3, let code = UInt8(digits, radix: 8) {
            bytes.append(code)
            rest.removeFirst(3)
        } else {
            bytes.append(byte)
        }
    }
    return String(decoding: bytes, as: UTF8.self)
}

private func lines(of path: String) -> [String] {
    guard let file = fopen(path, "r") else { return [] }
    defer { fclose(file) }
    var lines: [String] = []
    var line: UnsafeMutablePointer<CChar>?
    var size = 0
    defer { free(line) }
    while getline(&line, &size, file) > 0 { lines.append(line.map { String(cString: $0) } ?? "") }
    return lines
}
