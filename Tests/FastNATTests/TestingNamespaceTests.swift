import FastNATTesting
import Foundation
import Testing

@Suite("Network namespaces", .enabled(if: getuid() == 0, "needs root"))
struct TestingNamespaceTests {
    @Test("A namespace exists while it is held, under the name that ip netns knows")
    func livesAsLongAsItsObject() throws {
        var path = ""
        do {
            let namespace = try NetworkNamespace("life")
            path = namespace.path
            #expect(FileManager.default.fileExists(atPath: path))
            #expect(try namespace.command(["ip", "-o", "link"]).output.split(separator: "\n").count == 1)
        }
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test("What runs inside sees the namespace, and only while it runs")
    func runsOnAThreadOfItsOwn() throws {
        let namespace = try NetworkNamespace("run")
        func current() -> String? {
            try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self/ns/net")
        }
        let outside = current()
        let inside = try namespace.run { () throws(TestingError) in current() }
        #expect(inside != nil && inside != outside)
        #expect(current() == outside)
        #expect(throws: TestingError.self) {
            try namespace.run { () throws(TestingError) in throw .malformed("as thrown") }
        }
    }

    @Test("A command's status, output and errors come back; a slow one is killed")
    func commands() throws {
        let namespace = try NetworkNamespace("cmd")
        let result = try namespace.command(
            ["sh", "-c", "cat; echo $X >&2; exit 3"], input: Array("in".utf8), environment: ["X": "y"], check: false)
        #expect(result.status == 3)
        #expect(result.output == "in")
        #expect(result.errors == "y\n")
        #expect(throws: TestingError.self) { try namespace.command(["false"]) }
        #expect(throws: TestingError.self) { try namespace.command(["no-such-program"]) }

        let start = ContinuousClock.now
        #expect(throws: TestingError.self) {
            try namespace.command(["sh", "-c", "sleep 60 & sleep 60"], timeout: .milliseconds(50))
        }
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test("nsenter keeps the mounts, such as /sys/fs/bpf; ip netns exec brings its own")
    func entries() throws {
        let namespace = try NetworkNamespace("sys")
        func mounts(via entry: NetworkNamespace.Entry) throws -> String {
            try namespace.command(["readlink", "/proc/self/ns/mnt"], via: entry).output
        }
        let outside = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/mnt")
        #expect(try mounts(via: .nsenter) == outside)
        #expect(try mounts(via: .ipNetnsExec) != outside)
    }

    @Test("A server is awaited by its port and ends with its object")
    func servers() throws {
        let namespace = try NetworkNamespace("srv")
        var server: ChildProcess? = try namespace.spawn(["socat", "TCP6-LISTEN:7777,fork", "EXEC:cat"])
        try namespace.waitUntil(listening: 7777, .tcp, by: server)
        #expect(try !namespace.isListening(on: 7777, .udp))
        let identifier = try #require(server).identifier
        server = nil
        #expect(kill(identifier, 0) == -1)
        #expect(try !namespace.isListening(on: 7777, .tcp))
    }
}
