internal import Glibc

/// The C library's text for an errno.
func errorText(_ code: Int32) -> String {
    guard let text = strerror(code) else { return "error \(code)" }
    return String(cString: text)
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the datapath.
func monotonicNow() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Makes a directory; silent when it is there.
func makeDirectory(_ path: String) throws(FastNATError) {
    if mkdir(path, 0o700) != 0 && errno != EEXIST {
        throw .system(attempt: "make the directory \(path)", errno: errno)
    }
}

/// The names in a directory, sorted; empty when there is none.
package func directoryEntries(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { name in
            name.withMemoryRebound(to: CChar.self, capacity: Int(NAME_MAX) + 1) { String(cString: $0) }
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}

/// Whether a path exists.
func pathExists(_ path: String) -> Bool {
    access(path, F_OK) == 0
}

/// Removes a directory with everything in it; what is not there is removed already.
func removeTree(_ path: String) {
    for name in directoryEntries(path) {
        let child = "\(path)/\(name)"
        if unlink(child) != 0 { removeTree(child) }
    }
    rmdir(path)
}

/// Whether this thread has a capability in its effective set; numbers of `<linux/capability.h>`.
func hasCapability(_ number: Int) -> Bool {
    guard let file = fopen("/proc/thread-self/status", "r") else { return false }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var size = 0
    defer { free(line) }
    while getline(&line, &size, file) > 0, let text = line.map({ String(cString: $0) }) {
        guard text.hasPrefix("CapEff:") else { continue }
        let digits = text.dropFirst(7).filter { !$0.isWhitespace }
        return (UInt64(digits, radix: 16) ?? 0) >> UInt64(number) & 1 == 1
    }
    return false
}
