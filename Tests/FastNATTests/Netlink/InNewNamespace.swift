import Foundation
import Glibc

/// A command or call that a test relies on and that failed.
struct SetupError: Error, CustomStringConvertible {
    let description: String

    /// The error of the C call that just failed.
    static func last(_ call: String) -> SetupError {
        SetupError(description: "\(call): \(String(cString: strerror(errno)))")
    }
}

/// Runs `body` on this thread in a new network namespace, which goes with it. Loopback is down there.
///
/// Not on a thread of its own: Swift Testing knows only on the test's thread which test an expectation belongs to. The
/// body cannot `await`, so nothing else runs on the thread meanwhile.
func inNewNamespace(_ body: () throws -> Void) throws {
    let home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    guard home >= 0 else { throw SetupError.last("open the thread's network namespace") }
    defer { close(home) }
    try unshareNetwork()
    defer {
        // A thread that stays behind would run other tests in the wrong place.
        if gnu("setns")?(home, 0x4000_0000 /* CLONE_NEWNET */, 0) != 0 { abort() }
    }
    try body()
}

/// Moves this thread into a new network namespace.
func unshareNetwork() throws {
    guard gnu("unshare")?(0x4000_0000 /* CLONE_NEWNET */, 0, 0) == 0 else { throw SetupError.last("unshare") }
}

/// A function that `<sched.h>` declares for `_GNU_SOURCE` only, which Swift's importer does not define.
private func gnu(_ name: String) -> (@convention(c) (Int32, Int32, Int32) -> Int32)? {
    guard let symbol = dlsym(nil, name) else { return nil }
    return unsafeBitCast(symbol, to: (@convention(c) (Int32, Int32, Int32) -> Int32).self)
}

/// Runs a shell command in this thread's namespaces and gives its standard output.
@discardableResult
func shell(_ command: String) throws -> String {
    guard let pipe = popen("set -e; { \(command)\n} 2>&1", "re") else { throw SetupError(description: "popen failed") }
    var output: [UInt8] = []
    while true {
        let byte = fgetc(pipe)
        if byte == EOF { break }
        output.append(UInt8(truncatingIfNeeded: byte))
    }
    let status = pclose(pipe)
    let text = String(decoding: output, as: UTF8.self)
    guard status == 0 else { throw SetupError(description: "\(command): status \(status >> 8): \(text)") }
    return text
}

/// The objects that `ip -j …` prints.
func ipJSON(_ arguments: String) throws -> [[String: Any]] {
    let text = try shell("ip -j \(arguments)")
    let value = try JSONSerialization.jsonObject(with: Data(text.utf8))
    guard let objects = value as? [[String: Any]] else {
        throw SetupError(description: "ip -j \(arguments) gave \(text)")
    }
    return objects.filter { !$0.isEmpty }
}
