import FastNATTesting
import Foundation
import Testing

/// Clients, a host with a real dockerd on it, and fastnat.
final class DockerScene: Sendable {
    let topology: Topology
    let daemon: DockerDaemon
    let fastnat: FastnatPath

    var host: NetworkNamespace { topology.host }
    var client: NetworkNamespace { topology.client.namespace }

    /// Starts dockerd, and loads fastnat.
    init(_ mode: DockerDaemon.Mode, _ hook: FastnatPath.Mode = .tc, options: [String] = []) throws {
        topology = try Topology(Topology.Options(.direct))
        daemon = try DockerDaemon(in: topology.host, mode, options: options)
        fastnat = FastnatPath(topology, mode: hook)
        try fastnat.start()
    }

    deinit { _ = try? fastnat.run(["unload"], check: false) }

    /// The host's address, with a port.
    func published(_ port: UInt16, _ family: Topology.Family = .v4) -> Packet.Endpoint {
        topology.hostEndpoint(family, port)
    }

    /// What the container behind a port says its name is; nil when nobody answers.
    func answer(_ port: UInt16, _ family: Topology.Family = .v4, timeout: Duration = .seconds(2)) -> String? {
        try? Traffic.get(published(port, family), from: client, timeout: timeout)
    }

    /// Waits until the container behind a port answers with its name.
    func awaitAnswer(_ port: UInt16, _ name: String?, timeout: Duration = .seconds(20)) throws {
        try awaitCondition("\(name ?? "nobody") behind \(port)", timeout: timeout) {
            answer(port, timeout: .milliseconds(500)) == name
        }
    }

    /// Starts `fastnat docker`, and waits until it follows.
    func follow(_ options: String...) throws -> ChildProcess {
        let process = try fastnat.spawn(["docker", "--socket", daemon.socket, "--log-level", "debug"] + options)
        try process.waitUntil(printed: "following Docker", timeout: .seconds(20))
        return process
    }

    /// `fastnat docker` with these options, until it ends.
    @discardableResult
    func synchronize(_ options: [String], check: Bool = true) throws -> CommandResult {
        try fastnat.run(["docker", "--socket", daemon.socket] + options, check: check)
    }

    /// The objects that a fastnat command with --json prints.
    func list(_ command: String) throws -> [[String: Any]] {
        let result = try fastnat.run([command, "list", "--json"])
        return try #require(try JSONSerialization.jsonObject(with: Data(result.outputBytes)) as? [[String: Any]])
    }

    /// What mappings Docker's containers have, as `PORT-PORT/PROTOCOL TARGET`, sorted; those for IPv4 and IPv6 clients as one.
    func mappings() throws -> [String] {
        let own = try list("map").filter { ($0["owner"] as? String ?? "").hasPrefix("docker:") }
        return Set(
            own.compactMap { mapping in
                guard let port = mapping["port"], let end = mapping["portEnd"], let target = mapping["target"],
                    let transport = mapping["protocol"]
                else { return nil }
                return "\(port)-\(end)/\(transport) \(target)"
            }
        ).sorted()
    }

    /// Unloads, and waits until nothing is left of fastnat.
    func finish() throws {
        let instance = try FastnatInstance(of: host)
        try fastnat.stop()
        try instance.awaitGone()
    }
}

extension DockerScene {
    /// Packets that the mappings of a port have carried.
    func packets(on port: Int) throws -> Int {
        try list("map").filter { $0["port"] as? Int == port }.compactMap { $0["packets"] as? Int }.reduce(0, +)
    }

    /// Waits until everything that has happened so far is synchronized.
    func follow(_ follower: ChildProcess, _ what: String) throws {
        func count() -> Int { follower.errors.split(separator: "\n").count { $0.contains("asks") } }
        let before = count()
        follower.signal(SIGHUP)
        try awaitCondition(what, timeout: .seconds(10)) { count() > before }
    }

    /// Has the port that docker-proxy holds given up.
    func takePort(_ port: UInt16) throws {
        try host.command([
            "sh", "-c", "for p in $(pgrep -f '[d]ocker-proxy.* -host-port \(port) '); do kill -KILL $p; done",
        ])
        try awaitCondition("port \(port) to be free") { () throws(TestingError) in try !host.isListening(on: port, .tcp)
        }
    }

    /// Sets the counters of all rules to zero.
    func clearRuleCounters() throws {
        for table in ["nat", "filter"] { try host.command(["iptables", "-t", table, "-Z"]) }
    }

    /// The rules of Docker's that have seen packets: what publishes, forwards and masquerades.
    func ruleCounters() throws -> [String] {
        try ["nat", "filter"].flatMap { table in
            try host.command(["iptables-save", "--counters", "--table", table]).output.split(separator: "\n")
                .filter { $0.contains("-A ") && !$0.hasPrefix("[0:0]") }.map(String.init)
        }
    }

    /// A datagram to a port comes back.
    func expectEcho(_ port: UInt16, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let payload = Array("echo".utf8)
        let answer = try? Traffic.exchangeUDP(payload, with: published(port), from: client)
        #expect(answer == payload, sourceLocation: sourceLocation)
    }
}
