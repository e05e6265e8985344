import FastNATTesting
import Foundation
import Testing

@Suite(
    "Podman", .enabled(if: isRoot, "needs root"),
    .enabled(if: Podman.isInstalled, "needs podman and a static busybox: make test takes them out of their packages"))
struct PodmanTests {
    /// Ends by itself: a container outlives a test that was killed.
    private static let server = "busybox /bin/busybox timeout 600 /bin/busybox httpd -f -p 80 -h /www"

    @Test("Podman publishes with fastnat in place of portmap, and takes it back", arguments: FastnatPath.Mode.allCases)
    func publish(_ mode: FastnatPath.Mode) throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let podman = try Podman(scene.host, options: ["uplinks": ["eth0"], "mode": mode.rawValue, "masquerade": true])
        let outside = try TrafficServer(.http, in: scene.client, port: 80)
        func serves() throws -> Bool { try Traffic.get(scene.published(8080), from: scene.client) == Podman.page }

        let id = try podman.run("run -d --name web -p 8080:80 -p 9000-9099:7000-7099/udp \(Self.server)").output
        try eventually("the container serves") { try serves() }
        let owner = "cni:testnet/\(id)/eth0"
        let listed = try scene.list("map")
        #expect(
            listed.map { $0["portEnd"] as? Int } == [8080, 9099]
                && listed.allSatisfy { $0["owner"] as? String == owner })
        let client = scene.topology.client.endpoint(.v4, outside.port)
        let seen = try podman.run("exec web /bin/busybox wget -q -O - http://\(client)/").output
        #expect(seen.hasPrefix("\(scene.topology.hostAddress(.v4)) "), "\(seen)")

        let second = try podman.run("run -d --name second -p 8080:80 \(Self.server)", check: false)
        #expect(!second.succeeded && second.errors.contains("of \(owner)"), "\(second)")
        try podman.run("rm -f -t 0 second")
        #expect(try serves())

        try podman.run("restart -t 0 web")
        try eventually("the container serves again") { try serves() }
        try podman.run("rm -f -t 0 web")
        #expect(try scene.list("map").isEmpty)
        #expect(!Traffic.canGet(scene.published(8080), from: scene.client))
        try scene.finish()
    }

    @Test("podman network reload takes force, because podman itself holds the ports of a running container")
    func reload() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct), isStarted: false)
        let podman = try Podman(scene.host, options: ["uplinks": ["eth0"], "force": true])
        try podman.run("run -d --name web -p 8080:80 \(Self.server)")
        try eventually("the container serves") { Traffic.canGet(scene.published(8080), from: scene.client) }
        try scene.run("unload")
        try podman.run("network reload web")
        try eventually("the container serves again") { Traffic.canGet(scene.published(8080), from: scene.client) }
        try podman.run("rm -f -t 0 web")
        try scene.finish()
    }
}
