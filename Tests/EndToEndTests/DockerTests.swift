import FastNATTesting
import Foundation
import Testing

@Suite(
    "Docker", .serialized, .enabled(if: isRoot, "needs root"),
    .enabled(if: DockerDaemon.isAvailable, "needs Docker in .build/docker (make setup)"))
struct DockerTests {
    /// Docker with its rules and without, fastnat at TC and at XDP.
    static let ways = DockerDaemon.Mode.allCases.flatMap { mode in FastnatPath.Mode.allCases.map { (mode, $0) } }

    @Test("A published port follows its container through restarts, networks and names", arguments: ways)
    func life(_ mode: DockerDaemon.Mode, _ hook: FastnatPath.Mode) throws {
        let scene = try DockerScene(mode, hook)
        let follower = try scene.follow()
        try scene.daemon.run("web", ["--publish", "8080:80", "--publish", "9000-9003:9000-9003/udp"])
        let first = try scene.daemon.address(of: "web")
        try eventually("mappings", timeout: .seconds(20)) {
            try scene.mappings() == ["8080-8080/tcp \(first)", "9000-9003/udp \(first)"]
        }
        try scene.awaitAnswer(8080, "web")
        #expect(try scene.packets(on: 8080) > 0)

        // Another one takes its address while it is stopped.
        try scene.daemon.docker("stop", "--time", "0", "web")
        try scene.daemon.run("other", ["--publish", "8081:80"])
        try scene.daemon.docker("start", "web")
        #expect(try scene.daemon.address(of: "web") != first)
        try scene.awaitAnswer(8080, "web")
        try scene.awaitAnswer(8081, "other")

        try scene.daemon.docker("pause", "web")
        try scene.daemon.docker("rename", "web", "renamed")
        try scene.follow(follower, "pause and rename")
        #expect(try scene.mappings().count == 3)
        try scene.daemon.docker("unpause", "renamed")
        try scene.awaitAnswer(8080, "web")

        try scene.daemon.docker("network", "create", "second")
        try scene.daemon.docker("network", "connect", "second", "renamed")
        try scene.daemon.docker("network", "disconnect", "bridge", "renamed")
        let second = try scene.daemon.address(of: "renamed", in: "second")
        try eventually("the address in the second network", timeout: .seconds(20)) {
            try scene.mappings().contains("8080-8080/tcp \(second)")
        }
        try scene.awaitAnswer(8080, "web")

        try scene.daemon.remove("renamed")
        try eventually("no mapping", timeout: .seconds(20)) { try scene.mappings().count == 1 }
        #expect(scene.answer(8080, timeout: .seconds(1)) == nil)
        try scene.awaitAnswer(8081, "other")
        try scene.finish()
    }

    @Test("Docker's own rules see none of the packets, and take over when fastnat is unloaded")
    func counters() throws {
        let scene = try DockerScene(.unmodified)
        let server = try TrafficServer(.http, in: scene.client, port: 80)
        let follower = try scene.follow()
        try scene.daemon.run("web", ["--publish", "8080:80", "--publish", "5353:5353/udp"])
        let echo = try scene.daemon.serveUDP(on: 5353, in: "web")
        try eventually("mappings", timeout: .seconds(20)) { try scene.mappings().count == 2 }
        try scene.awaitAnswer(8080, "web")
        try scene.clearRuleCounters()
        for _ in 0..<5 { #expect(scene.answer(8080) == "web") }
        try scene.expectEcho(5353)
        let outward = ["wget", "-q", "-O", "-", "http://\(scene.topology.client.v4):80/"]
        let seen = try scene.daemon.docker(["exec", "web", "busybox"] + outward).output
        #expect(seen.hasPrefix("192.0.2.1 "), "\(seen)")
        #expect(try scene.ruleCounters() == [])

        follower.signal(SIGTERM)
        #expect(try follower.wait().status == 0)
        #expect(scene.answer(8080) == "web")
        #expect(try scene.ruleCounters() == [])
        try scene.finish()
        #expect(scene.answer(8080) == "web")
        #expect(try scene.ruleCounters() != [])
        _ = (server, echo)
    }

    @Test("The UDP flows of a container end when it dies, also when it is back with the same address")
    func flows() throws {
        let scene = try DockerScene(.withoutRules)
        let follower = try scene.follow("--masquerade", "bridge")
        try scene.daemon.run("echo", ["--publish", "5353:5353/udp"])
        let echo = try scene.daemon.serveUDP(on: 5353, in: "echo")
        try eventually("the mapping") { try scene.mappings().count == 1 }
        try scene.expectEcho(5353)
        #expect(try scene.fastnat.run(["conntrack", "count"]).output == "1")
        try eventually("the masquerade") { try scene.list("masquerade").count == 1 }
        try scene.daemon.sendUDP(to: "\(scene.topology.client.v4)", port: 9, in: "echo")
        #expect(try scene.fastnat.run(["conntrack", "count"]).output == "2")
        try scene.daemon.docker("restart", "--time", "0", "echo")
        try eventually("no flow", timeout: .seconds(20)) {
            try scene.fastnat.run(["conntrack", "count"]).output == "0"
        }
        _ = (follower, echo)
        try scene.finish()
    }

    @Test("What others have added stays, and what would take its place is left out and named")
    func others() throws {
        let scene = try DockerScene(.unmodified)
        for listen in ["8080", "[::]:8080"] { try scene.fastnat.run(["map", "add", listen, "172.20.0.2:1"]) }
        try scene.fastnat.run(["map", "add", "7000", "172.20.0.2:1", "--owner", "dockers:1"])
        try scene.fastnat.run(["masquerade", "add", "172.17.0.0/16", "--iface", "eth0"])
        try scene.daemon.run("web", ["--publish", "8080:80", "--publish", "8081:80", "--publish", "8082:80"])
        try scene.takePort(8082)
        let foreign = try TrafficServer(.tcpEcho, in: scene.host, port: 8082)

        let result = try scene.synchronize(["--once"])
        for part in [
            "0.0.0.0:8080/tcp is left out", "a local program listens on", "172.17.0.0/16 is masqueraded already",
        ] {
            #expect(result.errors.contains(part), "\(result.errors)")
        }
        let target = try scene.daemon.address(of: "web")
        #expect(try scene.mappings() == ["8081-8081/tcp \(target)"])
        foreign.stop()
        try scene.synchronize(["--once"])
        #expect(try scene.mappings() == ["8081-8082/tcp \(target)"])

        try scene.daemon.remove("web")
        try scene.synchronize(["--once"])
        #expect(try scene.mappings() == [])
        #expect(try scene.list("map").compactMap { $0["port"] as? Int }.sorted() == [7000, 8080, 8080])
        #expect(try scene.list("masquerade").count == 1)
        try scene.finish()
    }

    @Test("Mappings stay while Docker restarts, and what happened meanwhile is made up for")
    func restart() throws {
        let scene = try DockerScene(.unmodified, options: ["--live-restore"])
        let follower = try scene.follow()
        try scene.daemon.run("web", ["--publish", "8080:80"])
        try eventually("mappings", timeout: .seconds(20)) { try scene.mappings().count == 1 }
        try scene.daemon.signal(SIGKILL)
        try follower.waitUntil(printed: "what is published stays", timeout: .seconds(20))
        #expect(scene.answer(8080) == "web")
        try scene.daemon.awaitAnswer()
        #expect(scene.answer(8080) == "web")
        try scene.daemon.run("second", ["--publish", "8081:80"])
        try scene.awaitAnswer(8081, "second")

        // Somebody unloads fastnat and loads it again.
        try scene.finish()
        follower.signal(SIGHUP)
        try follower.waitUntil(printed: "not loaded", timeout: .seconds(20))
        try scene.fastnat.start()
        try eventually("the mappings", timeout: .seconds(30)) { try scene.mappings().count == 2 }
        try scene.finish()
    }

    @Test("A network that is made anew with its addresses is masqueraded as the one before")
    func networkAnew() throws {
        let scene = try DockerScene(.withoutRules)
        // Whether the new identifier sorts before the old one is chance.
        for _ in 0..<8 {
            try scene.daemon.docker("network", "create", "--subnet", "172.30.0.0/24", "anew")
            let id = try scene.daemon.docker("network", "inspect", "--format", "{{slice .Id 0 12}}", "anew").output
            let result = try scene.synchronize(["--once"])
            #expect(result.errors == "")
            #expect(try scene.list("masquerade").map { $0["owner"] as? String } == ["docker:\(id)"])
            try scene.daemon.docker("network", "rm", "anew")
        }
        try scene.finish()
    }

    @Test("--dry-run prints what --once then does, and does nothing itself")
    func dryRun() throws {
        let scene = try DockerScene(.withoutRules)
        try scene.daemon.run(
            "web", ["--publish", "8080:80", "--publish", "8081:80", "--label", "fastnat.allow=192.0.2.0/24"])
        try scene.daemon.run("hidden", ["--publish", "99:80", "--label", "fastnat.enable=false"])
        let option = "com.docker.network.bridge.enable_ip_masquerade=false"
        try scene.daemon.docker("network", "create", "--opt", option, "bare")
        let id = try scene.daemon.docker("inspect", "--format", "{{slice .Id 0 12}}", "web").output
        let options = ["--masquerade", "bridge"]
        let result = try scene.synchronize(["--dry-run"] + options)
        let text = result.output.split(separator: "\n").sorted()
        let target = try scene.daemon.address(of: "web")
        try #require(text.count == 2, "\(result)")
        #expect(text[0] == "+ mapping 0.0.0.0:8080-8081/tcp \(target):80 allow=192.0.2.0/24 docker:\(id) (web)")
        #expect(text[1].hasPrefix("+ masquerade 172.17.0.0/16 by eth0 docker:"))
        #expect(try scene.mappings() == [])
        try scene.synchronize(["--once"] + options)
        #expect(try scene.synchronize(["--dry-run"] + options).output == "")
        for port in [8080, 8081] as [UInt16] { #expect(scene.answer(port) == "web") }
        #expect(try scene.list("map").first?["allow"] as? [String] == ["192.0.2.0/24"])
        try scene.finish()
    }

    @Test("What is wrong is said in a sentence, with its exit status")
    func errors() throws {
        let topology = try Topology(Topology.Options(.direct))
        let fastnat = FastnatPath(topology, mode: .tc)
        for (arguments, status, text) in [
            (["--socket", "/tmp/no.sock", "--once"], 69, "Docker cannot be reached at /tmp/no.sock: No such file"),
            (["--json"], 64, "--json belongs to --dry-run"),
            (["--owner", "a b", "--once"], 64, "cannot name an owner"),
        ] as [([String], Int32, String)] {
            let result = try fastnat.run(["docker"] + arguments, check: false)
            #expect(result.status == status && result.errors.contains(text), "\(result)")
        }
    }

    @Test("A service manager is told of readiness, life and the end")
    func notifications() throws {
        let topology = try Topology(Topology.Options(.direct))
        let path = "/tmp/fastnat-notify-\(UUID().uuidString)"
        let manager = try topology.host.spawn(["socat", "-u", "UNIX-RECV:\(path)", "-"])
        defer { unlink(path) }
        try awaitCondition("the socket") { FileManager.default.fileExists(atPath: path) }
        let follower = try topology.host.spawn(
            [FastnatPath.defaultBinary, "docker", "--socket", "/tmp/no.sock"],
            environment: ["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"])
        try manager.waitUntil(printed: "READY=1")
        try manager.waitUntil(printed: "WATCHDOG=1\nSTATUS=waiting for Docker at /tmp/no.sock")
        follower.signal(SIGTERM)
        #expect(try follower.wait().status == 0)
        try manager.waitUntil(printed: "STOPPING=1")
        #expect(follower.errors.split(separator: "\n").count { $0.contains("Docker cannot be reached") } == 1)
    }
}
