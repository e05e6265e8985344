import CDatapath
import FastNATTesting
import Foundation
import Testing

@Suite("Errors of the command line", .enabled(if: isRoot, "needs root"))
struct CommandLineErrorTests {
    /// A wrong command, its exit status, and what the sentence on stderr names.
    struct Wrong: Sendable, CustomTestStringConvertible {
        let arguments: String
        let status: Int32
        let names: [String]
        var input = ""

        var testDescription: String { "fastnat \(arguments)" }
    }

    private static func wrong(_ arguments: String, _ status: Int32, _ names: String..., input: String = "") -> Wrong {
        Wrong(arguments: arguments, status: status, names: names, input: input)
    }

    /// Runs it: the status, one sentence on stderr, nothing on stdout.
    private func expect(
        _ wrong: Wrong, _ fastnat: FastnatPath, isSentence: Bool = true,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let arguments = wrong.arguments.split(separator: " ").map(String.init)
        let result = try fastnat.run(arguments, input: wrong.input, check: false)
        #expect(result.status == wrong.status, "\(result)", sourceLocation: sourceLocation)
        #expect(result.outputBytes.isEmpty, "\(result)", sourceLocation: sourceLocation)
        for name in wrong.names { #expect(result.errors.contains(name), "\(result)", sourceLocation: sourceLocation) }
        guard isSentence else { return }
        #expect(result.errors.hasPrefix("fastnat: "), "\(result)", sourceLocation: sourceLocation)
        #expect(result.errors.split(separator: "\n").count == 1, "\(result)", sourceLocation: sourceLocation)
        #expect(result.errors.hasSuffix("\n"), "\(result)", sourceLocation: sourceLocation)
    }

    @Test("Before a load")
    func beforeLoad() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge), isStarted: false)
        let fastnat = try #require(scene.fastnat)
        for wrong in [
            Self.wrong("load --iface nosuch0", 66, "nosuch0"), Self.wrong("load --iface lo", 64, "lo", "loopback"),
            Self.wrong("load --iface veth0", 64, "veth0", "br0"),
            Self.wrong("load --iface eth0 --internal eth0", 64, "eth0", "internal"),
            Self.wrong("load --iface eth0 --internal nosuch0", 66, "nosuch0"),
            Self.wrong("load --iface eth0 --mode xdp --iface br0", 64, "br0", "--mode tc"),
            Self.wrong("load --iface eth0 --udp-timeout 119", 64, "119", "120"),
            Self.wrong("load --iface eth0 --max-flows 10", 64, "10", "1024"),
            Self.wrong("map list", 69, "fastnat load"), Self.wrong("map add 80 172.20.0.2:80", 69, "fastnat load"),
            Self.wrong("map rm 80", 69, "fastnat load"), Self.wrong("map flush", 69, "fastnat load"),
            Self.wrong("conntrack list", 69, "fastnat load"), Self.wrong("conntrack count", 69, "fastnat load"),
            Self.wrong("conntrack flush", 69, "fastnat load"), Self.wrong("status", 69, "fastnat load"),
            Self.wrong("unload", 69, "fastnat load"), Self.wrong("unload --iface eth0", 69, "fastnat load"),
        ] {
            try expect(wrong, fastnat)
            try scene.expectNothingAttached()
        }
        let cookie = try scene.host.cookie
        #expect(!FileManager.default.fileExists(atPath: "/run/fastnat/bpf/\(cookie)"))
        #expect(!FileManager.default.fileExists(atPath: "/run/fastnat/\(cookie)"))
    }

    @Test("Wrong mappings change nothing")
    func mappings() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        let server = try TrafficServer(.http, in: scene.host, port: 22)
        try scene.run("map", "add", "8000-8099", "172.20.0.2:80")
        let before = try scene.run("map", "list", "--json").output
        let programs = try FastnatInstance(of: scene.host).programs
        for wrong in [
            Self.wrong("map add 99999 172.20.0.2:80", 64, "99999"), Self.wrong("map add 0 172.20.0.2:80", 64, "0"),
            Self.wrong("map add 8x 172.20.0.2:80", 64, "8x"),
            Self.wrong("map add 90 172.20.0.300:80", 64, "172.20.0.300"),
            Self.wrong("map add 90 fd00:20::2:80", 64, "brackets"), Self.wrong("map add 90 172.20.0.2", 64, "port"),
            Self.wrong("map add 95-90 172.20.0.2:80", 64, "95-90"),
            Self.wrong("map add 90-95 172.20.0.2:80-90", 64, "90-95", "80-90"),
            Self.wrong("map add 90/icmp 172.20.0.2:80", 64, "icmp"),
            Self.wrong("map add 90/sctp 172.20.0.2:80", 64, "SCTP", "90", "80"),
            Self.wrong("map add 90 172.20.0.2:80 --allow 10.0.0.0/33", 64, "10.0.0.0/33"),
            Self.wrong("map add 90 172.20.0.2:80 --allow fd00::/8", 64, "fd00::/8"),
            Self.wrong("map add 224.0.0.1:90 172.20.0.2:80", 64, "multicast"),
            Self.wrong("map add 90 0.0.0.0:80", 64, "0.0.0.0"),
            Self.wrong("map add 8050 172.20.0.2:81", 73, "8050/tcp", "8000-8099/tcp"),
            Self.wrong("map add 7990-8000 172.20.0.2:81", 73, "7990-8000/tcp", "8000-8099/tcp"),
            Self.wrong("map add 90 10.9.9.9:80", 68, "10.9.9.9", "route"),
            Self.wrong("map add 90 192.0.2.1:80", 68, "192.0.2.1", "this host"),
            Self.wrong("map add 90 127.0.0.1:80", 64, "127.0.0.1"),
            Self.wrong("map add 20-30 172.20.0.2:80", 73, "22", "--force"),
            Self.wrong("map add --file /nosuch", 66, "/nosuch"), Self.wrong("map rm 8000", 66, "8000"),
            Self.wrong("map rm 8000-8099/udp", 66, "8000-8099/udp"), Self.wrong("map rm x", 64, "x"),
            Self.wrong("conntrack flush --mapping 1", 66, "1"), Self.wrong("unload --iface br0", 64, "br0"),
            Self.wrong("unload --iface nosuch0", 66, "nosuch0"), Self.wrong("load --iface nosuch0", 66, "nosuch0"),
            Self.wrong("load --iface eth0 --max-flows 2048", 73, "2048"),
            Self.wrong("load --iface eth0 --udp-timeout 1", 64, "120"),
        ] {
            try expect(wrong, fastnat)
            #expect(try scene.run("map", "list", "--json").output == before, "\(wrong.arguments)")
        }
        #expect(try FastnatInstance(of: scene.host).programs == programs)
        #expect(Traffic.canGet(scene.published(server.port), from: scene.client))
        try scene.finish()
    }

    @Test("A local program's port is published by force alone, and comes back")
    func force() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        let local = try TrafficServer(.tcpNamed("local"), in: scene.host, port: 22)
        let container = try scene.serve(.tcpNamed("container"), on: 7)
        func name() throws -> Substring? { try Pulse(.tcp, to: scene.published(22), from: scene.client).stop().first }
        #expect(try name() == "local 0")
        try expect(Self.wrong("map add 22 \(scene.target(7))", 73, "22", "--force"), try #require(scene.fastnat))
        #expect(try name() == "local 0")
        try scene.run("map", "add", "22", "\(scene.target(container.port))", "--force")
        #expect(try name() == "container 0")
        try scene.run("map", "rm", "22")
        #expect(try name() == "local 0")
        _ = local
        try scene.finish()
    }

    @Test("A file with a bad line is refused as a whole, and the line named")
    func files() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        let good = "8000 172.20.0.2:80\n# comment\n\n8001/udp 172.20.0.2:81\n"
        for (line, names) in [
            ("8002 nonsense", ["line 5", "nonsense"]), ("8002/sctp 172.20.0.2:80", ["line 5", "SCTP"]),
            ("8000 172.20.0.2:99", ["line 5", "line 1", "8000"]),
        ] {
            let wrong = Wrong(arguments: "map add --file -", status: 65, names: names, input: good + line)
            try expect(wrong, fastnat)
        }
        try expect(Self.wrong("map add --file -", 68, "10.9.9.9", input: good + "8002 10.9.9.9:80"), fastnat)
        #expect(try scene.list("map").isEmpty)
        try scene.run("map", "add", "--file", "-", input: good)
        #expect(try scene.list("map").count == 2)
        let overlap = Self.wrong("map add --file -", 73, "8000/tcp", input: "7999 172.20.0.2:1\n8000 172.20.0.2:2\n")
        try expect(overlap, fastnat)
        #expect(try scene.list("map").count == 2)
        try scene.finish()
    }

    @Test("Without forwarding, or without privileges, nothing is done")
    func environment() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        let fastnat = try #require(scene.fastnat)
        try scene.host.setSystemControl("net.ipv4.ip_forward", "0")
        try expect(Self.wrong("map add 80 172.20.0.2:80", 71, "net.ipv4.ip_forward=1"), fastnat)
        try scene.host.setSystemControl("net.ipv6.conf.all.forwarding", "0")
        try expect(Self.wrong("map add 80 [fd00:20::2]:80", 71, "net.ipv6.conf.all.forwarding=1"), fastnat)
        #expect(try scene.list("map").isEmpty)

        for privileges in [["--reuid", "65534", "--clear-groups"], ["--bounding-set", "-all", "--inh-caps", "-all"]] {
            for arguments in [["load", "--iface", "eth0"], ["map", "list"], ["status"], ["unload"]] {
                let command = ["setpriv"] + privileges + [FastnatPath.defaultBinary] + arguments
                let result = try scene.host.command(command, check: false)
                #expect(result.status == 77, "\(result)")
                #expect(
                    result.errors
                        == "fastnat: fastnat needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN: run it as root\n"
                )
                #expect(result.outputBytes.isEmpty)
            }
        }
        try scene.finish()
    }

    @Test("On an old kernel nothing is done, and what it lacks is named")
    func kernelTooOld() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        for arguments in [["load", "--iface", "eth0"], ["map", "list"], ["unload"]] {
            // The kernel then says that it is 2.6.
            let command = ["setarch", "--uname-2.6", FastnatPath.defaultBinary] + arguments
            let result = try scene.host.command(command, check: false)
            #expect(result.status == 71 && result.outputBytes.isEmpty, "\(result)")
            #expect(
                result.errors
                    == "fastnat: this kernel is too old: it lacks bpf_loop and bpf_xdp_get_buff_len (Linux 5.18)\n")
            try scene.expectNothingAttached()
        }
        #expect(!FileManager.default.fileExists(atPath: "/run/fastnat/\(try scene.host.cookie)"))
    }

    /// A copy of the binary, in whose object the first instruction at XDP reads beyond the stack.
    private func brokenBinary(in directory: URL) throws -> String {
        var size = 0
        let object = Data(bytes: try #require(fastnat_datapath_object(&size)), count: size)
        let instruction = try #require(offset(ofSection: "xdp.frags", in: [UInt8](object)))
        var binary = try Data(contentsOf: URL(filePath: FastnatPath.defaultBinary))
        let place = try #require(binary.range(of: object)).lowerBound + instruction
        let load: [UInt8] = [0x79, 0xa0, 0x00, 0x01, 0, 0, 0, 0]  // r0 = *(u64 *)(r10 + 256)
        binary.replaceSubrange(place..<place + load.count, with: load)
        let broken = directory.appending(path: "fastnat").path
        try binary.write(to: URL(filePath: broken))
        try FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: broken)
        return broken
    }

    @Test("What the verifier says is in the error, its whole log with -v, and nothing stays")
    func verifier() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "fastnat-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let fastnat = FastnatPath(scene.topology, mode: .tc, binary: try brokenBinary(in: directory))
        let wrong = Self.wrong(
            "load --iface eth0", 70, "cannot load the BPF programs", "the verifier says: invalid read")
        try expect(wrong, fastnat)
        let verbose = try fastnat.run(["load", "--iface", "eth0", "-v"], check: false)
        let lines = verbose.errors.split(separator: "\n")
        #expect(verbose.status == 70 && lines.count > 3, "\(verbose)")
        #expect(
            lines.contains { $0.contains("r0 = *(u64 *)(r10 +256)") } && lines.contains { $0.hasPrefix("processed ") })
        #expect(lines.last?.hasPrefix("fastnat: cannot load the BPF programs") == true)
        try scene.expectNothingAttached()
        #expect(!FileManager.default.fileExists(atPath: "/run/fastnat/bpf/\(try scene.host.cookie)"))

        // What is loaded stays as it is.
        try scene.path.start()
        let programs = try FastnatInstance(of: scene.host).programs
        try expect(wrong, fastnat)
        #expect(try FastnatInstance(of: scene.host).programs == programs)
        try scene.finish()
    }

    @Test("A full table refuses a file as a whole")
    func tableFull() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        let fastnat = try #require(scene.fastnat)
        try scene.run("map", "add", "80", "172.20.0.2:80")
        let text = (1...16_384).map { "\($0 + 10_000) 172.20.0.2:80" }.joined(separator: "\n")
        try expect(Self.wrong("map add --file -", 73, "16384", input: text), fastnat)
        #expect(try scene.list("map").count == 1)
        try scene.finish()
    }

    @Test(
        "Usage errors end with 64 and say how it is meant",
        arguments: [
            "", "load", "map add", "map add 80", "map rm", "load --iface", "load --iface eth0 --mode fast", "map fly",
            "--no",
        ])
    func usage(_ arguments: String) throws {
        let scene = try Topology(.direct)
        let fastnat = FastnatPath(scene, mode: .tc)
        guard arguments != "" else {
            #expect(try fastnat.run(["--help"]).output.contains("USAGE"))
            return
        }
        try expect(Self.wrong(arguments, 64, "Usage"), fastnat, isSentence: false)
    }
}

/// Where a section of an ELF64 file of this machine's byte order begins: `Elf64_Ehdr` and `Elf64_Shdr` of `<elf.h>`.
private func offset(ofSection name: String, in file: [UInt8]) -> Int? {
    func number<Value: FixedWidthInteger>(_ offset: Int, _: Value.Type) -> Int {
        file.withUnsafeBytes { Int($0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
    }
    let (table, size, count) = (number(0x28, UInt64.self), number(0x3a, UInt16.self), number(0x3c, UInt16.self))
    let headers = (0..<count).map { table + $0 * size }
    let names = number(headers[number(0x3e, UInt16.self)] + 0x18, UInt64.self)
    let wanted = Array(name.utf8) + [0]
    return headers.first { file[(names + number($0, UInt32.self))...].starts(with: wanted) }
        .map { number($0 + 0x18, UInt64.self) }
}
