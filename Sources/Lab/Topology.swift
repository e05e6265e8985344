/// Clients — (router) — host — containers, each in a namespace, with static IPv4 and IPv6 addresses; ready when made.
///
/// | | interface | IPv4 | IPv6 |
/// |---|---|---|---|
/// | client *n* | eth0 | 192.0.2.(2+*n*) | 2001:db8:1::(2+*n*) |
/// | … behind a router | eth0 | 203.0.113.(2+*n*) | 2001:db8:3::(2+*n*) |
/// | host, uplink | eth0 | 192.0.2.1 | 2001:db8:1::1 |
/// | host, second uplink | eth1 | 198.51.100.1 | 2001:db8:2::1 |
/// | its client | eth0 | 198.51.100.2 | 2001:db8:2::2 |
/// | router | eth0, eth1 | 192.0.2.254, 203.0.113.1 | 2001:db8:1::fe, 2001:db8:3::1 |
/// | host, container side | veth0 or br0 | 172.20.0.1 | fd00:20::1 |
/// | container *n* | eth0 | 172.20.0.(2+*n*) | fd00:20::(2+*n*) |
public final class Topology: Sendable {
    /// What it was made from.
    public let options: Options
    /// The clients.
    public let clients: [Node]
    /// The host, which forwards.
    public let host: NetworkNamespace
    /// The containers.
    public let containers: [Node]
    /// The router between the clients and the host.
    public let router: NetworkNamespace?
    /// The client on the second uplink.
    public let secondClient: Node?
    private let lan: NetworkNamespace?

    /// The first client.
    public var client: Node { clients[0] }
    /// The first container.
    public var container: Node { containers[0] }
    /// The host's interfaces towards the clients.
    public var uplinks: [String] { options.hasSecondUplink ? ["eth0", "eth1"] : ["eth0"] }
    /// The host's interface that has the containers' gateway address.
    public var containerInterface: String { options.layout == .bridge ? "br0" : "veth0" }
    /// The containers' network.
    public static func containerNetwork(_ family: Family) -> String {
        family == .v4 ? "172.20.0.0/24" : "fd00:20::/64"
    }
    /// The host's address on the uplink, where ports are published.
    public func hostAddress(_ family: Family) -> Packet.Address {
        family == .v4 ? "192.0.2.1" : "2001:db8:1::1"
    }
    /// The same, with a port.
    public func hostEndpoint(_ family: Family, _ port: UInt16) -> Packet.Endpoint {
        Packet.Endpoint(hostAddress(family), port: port)
    }

    /// The host's end of the n-th container's veth pair.
    public func containerPort(_ index: Int = 0) -> String { "veth\(index)" }

    /// Creates the namespaces, wires them and waits until all addresses can be used.
    public init(_ options: Options) throws(TestingError) {
        guard options.clients > 0, options.containers > 0, options.layout == .bridge || options.containers == 1 else {
            throw .malformed("a topology with \(options.clients) clients and \(options.containers) containers")
        }
        self.options = options
        host = try NetworkNamespace("host")
        router = options.hasRouter ? try NetworkNamespace("router") : nil
        lan = options.clients > 1 ? try NetworkNamespace("lan") : nil
        let subnet: Subnet = options.hasRouter ? .behindRouter : .uplink
        clients = try Topology.nodes(options.clients, "client", in: subnet)
        containers = try Topology.nodes(options.containers, "container", in: .containers)
        secondClient = options.hasSecondUplink ? try Topology.nodes(1, "second", in: .secondUplink)[0] : nil
        try wire()
        try configure()
        for namespace in namespaces { try namespace.waitUntilAddressesAreUsable() }
    }

    /// The smallest topology of this layout.
    public convenience init(_ layout: Layout) throws(TestingError) {
        try self.init(Options(layout))
    }

    deinit { close() }

    /// Deletes all its namespaces, and what runs in them.
    public func close() {
        for namespace in namespaces { namespace.close() }
    }

    /// Every namespace of the topology.
    public var namespaces: [NetworkNamespace] {
        let nodes = clients + containers + [secondClient].compactMap(\.self)
        return nodes.map(\.namespace) + [host, router, lan].compactMap(\.self)
    }

    private static func nodes(_ count: Int, _ label: String, in subnet: Subnet) throws(TestingError) -> [Node] {
        var nodes: [Node] = []
        for number in 2..<count + 2 {
            let (v4, v6) = (try Packet.Address(subnet.v4(number)), try Packet.Address(subnet.v6(number)))
            nodes.append(Node(namespace: try NetworkNamespace(label), v4: v4, v6: v6))
        }
        return nodes
    }

    private func wire() throws(TestingError) {
        var gateway = (namespace: host, interface: "eth0")
        if let router {
            try router.connect("eth0", to: host, "eth0")
            gateway = (router, "eth1")
        }
        if let lan {
            try lan.ip(["link add br0 type bridge", "link set br0 up"])
            try lan.connect("uplink", to: gateway.namespace, gateway.interface, bridge: "br0")
            for (index, client) in clients.enumerated() {
                try lan.connect("port\(index)", to: client.namespace, "eth0", bridge: "br0")
            }
        } else {
            try client.namespace.connect("eth0", to: gateway.namespace, gateway.interface)
        }
        try secondClient?.namespace.connect("eth0", to: host, "eth1")
        if options.layout == .bridge { try host.ip(["link add br0 type bridge"]) }
        for (index, container) in containers.enumerated() {
            let bridge = options.layout == .bridge ? "br0" : nil
            try host.connect("veth\(index)", to: container.namespace, "eth0", bridge: bridge)
        }
    }

    private func configure() throws(TestingError) {
        var hostLines = Subnet.uplink.assign(1, to: "eth0")
        if options.hasSecondUplink { hostLines += Subnet.secondUplink.assign(1, to: "eth1") }
        if router != nil { hostLines += Subnet.uplink.route(via: 254) }
        hostLines += Subnet.containers.assign(1, to: containerInterface)
        try host.forward()
        try host.ip(hostLines)

        try router?.forward()
        let routes = Subnet.uplink.route("172.20.0.0/24", "fd00:20::/64", via: 1)
        try router?.ip(
            Subnet.uplink.assign(254, to: "eth0") + Subnet.behindRouter.assign(1, to: "eth1") + routes)

        try configure(clients, in: options.hasRouter ? .behindRouter : .uplink)
        try configure([secondClient].compactMap(\.self), in: .secondUplink)
        try configure(containers, in: .containers)
        for node in clients + [secondClient].compactMap(\.self) where !options.clientOffloads {
            try node.namespace.disableOffloads("eth0")
        }
        for container in containers {
            if !options.containerOffloads { try container.namespace.disableOffloads("eth0") }
            let state = options.containerGRO ? "on" : "off"
            try container.namespace.command(["ethtool", "-K", "eth0", "gro", state])
        }
    }

    private func configure(_ nodes: [Node], in subnet: Subnet) throws(TestingError) {
        for (index, node) in nodes.enumerated() {
            try node.namespace.ip(subnet.assign(index + 2, to: "eth0") + subnet.route(via: 1))
        }
    }
}
