import FastNATTesting
import Foundation
import Testing

/// A topology whose host publishes ports, and everything that tests do with it. Over when released; tests of fastnat call
/// `finish`, which also looks for what it has left behind.
final class Scene: Sendable {
    let topology: Topology
    let publisher: Publisher
    let path: any MasqueradingPath
    let family: Topology.Family

    /// Builds the topology and starts the publisher.
    init(
        _ publisher: Publisher, _ options: Topology.Options, _ family: Topology.Family = .v4,
        loadOptions: [String] = [], isStarted: Bool = true
    ) throws {
        topology = try Topology(options)
        // For tests that choose a source port: no connection before is to have been given it.
        for node in topology.clients + topology.containers {
            try node.namespace.setSystemControl("net.ipv4.ip_local_reserved_ports", "40000-46999")
        }
        self.publisher = publisher
        self.family = family
        path =
            publisher.isFastnat
            ? FastnatPath(topology, mode: publisher.mode, loadOptions: loadOptions) : IptablesPath(topology)
        if isStarted { try path.start() }
    }

    /// The same for a variant, with changed options.
    convenience init(_ variant: Variant, isStarted: Bool = true, _ change: (inout Topology.Options) -> Void = { _ in })
        throws
    {
        let options = Topology.Options(variant.layout).with(change)
        try self.init(variant.publisher, options, variant.family, isStarted: isStarted)
    }

    deinit { _ = try? fastnat?.run(["unload"], check: false) }

    var fastnat: FastnatPath? { path as? FastnatPath }
    var client: NetworkNamespace { topology.client.namespace }
    var host: NetworkNamespace { topology.host }

    /// The published address, with a port.
    func published(_ port: UInt16) -> Packet.Endpoint { topology.hostEndpoint(family, port) }

    /// A container's address, with a port.
    func target(_ port: UInt16, container: Int = 0) -> Packet.Endpoint {
        topology.containers[container].endpoint(family, port)
    }

    /// Starts a server in a container.
    func serve(_ kind: TrafficServer.Kind, on port: UInt16, container: Int = 0) throws -> TrafficServer {
        try TrafficServer(kind, in: topology.containers[container].namespace, port: port)
    }

    /// Publishes a port of the host for a container's.
    func publish(_ port: UInt16, to target: UInt16, _ transport: TransportProtocol = .tcp, container: Int = 0) throws {
        try path.publish(port, to: self.target(target, container: container), transport)
    }

    /// Undoes that.
    func unpublish(_ port: UInt16, to target: UInt16, _ transport: TransportProtocol = .tcp, container: Int = 0) throws
    {
        try path.unpublish(port, to: self.target(target, container: container), transport)
    }

    /// Runs fastnat in the host; its errors fail the test.
    @discardableResult
    func run(_ arguments: String..., via entry: NetworkNamespace.Entry = .nsenter, input: String = "") throws
        -> CommandResult
    {
        try #require(fastnat).run(arguments, via: entry, input: input)
    }

    /// The objects that a fastnat command with --json prints.
    func list(_ arguments: String..., via entry: NetworkNamespace.Entry = .nsenter) throws -> [[String: Any]] {
        let result = try #require(fastnat).run(arguments + ["list", "--json"], via: entry)
        return try #require(try JSONSerialization.jsonObject(with: Data(result.outputBytes)) as? [[String: Any]])
    }

    /// `fastnat status --json`.
    func status() throws -> [String: Any] {
        let result = try run("status", "--json")
        return try #require(try JSONSerialization.jsonObject(with: Data(result.outputBytes)) as? [String: Any])
    }

    /// Packets that an interface of the host has got (`rx`) or been given (`tx`) so far.
    func packets(_ side: String, on interface: String) throws -> Int {
        let text = try host.command(["ip", "-json", "-statistics", "link", "show", "dev", interface]).outputBytes
        let links = try JSONSerialization.jsonObject(with: Data(text)) as? [[String: Any]]
        let statistics = try #require(links?.first?["stats64"] as? [String: [String: Any]])
        return try #require(statistics[side]?["packets"] as? Int)
    }

    /// How many packets were not forwarded for this reason.
    func packets(notForwardedFor reason: String) throws -> Int {
        let reasons = try #require(try status()["reasons"] as? [[String: Any]])
        return try #require(reasons.first { $0["name"] as? String == reason }?["packets"] as? Int)
    }

    /// Unloads, and waits until nothing is left of fastnat. Throws when it was not loaded.
    func finish() throws {
        guard let fastnat else { return try path.stop() }
        let instance = try FastnatInstance(of: host)
        #expect(instance.programs.count >= 3 && instance.maps.count >= 13 && !instance.links.isEmpty)
        try fastnat.stop()
        try instance.awaitGone()
        try expectNothingAttached()
    }

    /// No program and no queueing discipline of fastnat's is on any interface of the host.
    func expectNothingAttached(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let links = try host.command(["ip", "-details", "link"]).output
        #expect(!links.contains("xdp"), sourceLocation: sourceLocation)
        let disciplines = try host.command(["tc", "qdisc", "show"]).output
        #expect(!disciplines.contains("clsact"), sourceLocation: sourceLocation)
    }
}

/// Waits until a condition holds that asks something which may fail meanwhile.
func eventually(_ what: String, timeout: Duration = .seconds(5), _ condition: () throws -> Bool) throws {
    try awaitCondition(what, timeout: timeout) { (try? condition()) ?? false }
}
