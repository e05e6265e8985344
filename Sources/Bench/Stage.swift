internal import BPF
internal import CBench
internal import FastNAT
internal import Glibc
internal import Lab

/// A path in a topology of its own, with the ports published that a workload wants.
final class Stage {
    /// What a stage is made of, but for the path.
    struct Plan: Sendable, Hashable {
        var layout: Topology.Layout
        /// The flows that must fit into tables, where they have a size.
        var flows = 100_000
        /// The size of fastnat's table, when it is to be no larger than this.
        var table: Int?
        /// What is published.
        var services: [Service]
        /// Whether frames will be redirected into the uplink's and the container's veth, as generators do.
        var takesFrames = false
        /// Whether containers' connections to the outside get the host's address.
        var isMasqueraded = false
        /// Whether the client cuts segments and completes checksums itself, as if there were a wire.
        var isWire = false

        /// Flows that fastnat's table has room for: a quarter of it is for flows that have had no reply (docs/state.md).
        var room: Int { table ?? max(262_144, flows * 4) }
    }

    /// A published port.
    struct Service: Sendable, Hashable {
        var port: UInt16
        var containerPort: UInt16
        var transport: Lab.TransportProtocol
    }

    let kind: PathKind
    private(set) var plan: Plan
    let topology: Topology
    let path: any PublishingPath
    /// Where it has come from.
    unowned let store: StageStore
    /// Whether all has gone as it should: it can be had again.
    var isSound = true
    private let conntrack: ConntrackRoom?
    /// The flows of a service that generators have opened so far: the first ones.
    var openFlows: [Service: UInt32] = [:]

    /// Builds everything.
    init(_ kind: PathKind, _ plan: Plan, from store: StageStore) throws(BenchError) {
        try kind.requireTools()
        if kind == .dockerProxy, plan.services.count > 100 {
            throw .unavailable("the proxy is a process for each port")
        }
        self.kind = kind
        self.plan = plan
        self.store = store
        conntrack = kind.usesConnectionTracking ? try ConntrackRoom(flows: plan.flows) : nil
        topology = try lab { () throws(TestingError) in
            try Topology(Topology.Options(plan.layout).with { $0.clientOffloads = !plan.isWire })
        }
        path = Stage.makePath(kind, topology, plan, store.binary(of: kind))
        do throws(BenchError) {
            try prepare()
        } catch {
            topology.close()
            throw error
        }
    }

    deinit { close() }

    /// Takes everything away.
    func close() {
        try? path.stop()
        topology.close()
    }

    /// Where the client sends to reach a service.
    func target(_ service: Service) -> Packet.Endpoint {
        kind.translates
            ? topology.hostEndpoint(.v4, service.port) : topology.container.endpoint(.v4, service.containerPort)
    }

    /// Throws when sockets at both ends do not get on with each other through this path.
    func requireSockets() throws(BenchError) {
        if kind.isLimit && kind.isAtXDP, !plan.isWire {
            throw .unavailable("sockets' packets have partial checksums on a veth, which nobody completes after XDP")
        }
    }

    /// Ends all flows of the path, so that the next ones are new.
    func forgetFlows() throws(BenchError) {
        openFlows = [:]
        try lab { () throws(TestingError) in
            if let path = path as? FastnatPath {
                try path.run(["conntrack", "flush"])
            } else if kind.usesConnectionTracking {
                try topology.host.command(["conntrack", "--flush"])
            }
        }
    }

    private static func makePath(
        _ kind: PathKind, _ topology: Topology, _ plan: Plan, _ binary: String
    ) -> any PublishingPath {
        let flows = ["--max-flows", "\(plan.room)"]
        return switch kind {
        case .routing: RoutingPath()
        case .iptablesNFT: IptablesPath(topology, backend: .nft)
        case .iptablesLegacy: IptablesPath(topology, backend: .legacy)
        case .nftables, .nftFlowtable, .xdpFlowtable: NftablesPath(topology, kind)
        case .dockerProxy: DockerProxyPath(topology)
        case .fastnatTC, .otherTC: FastnatPath(topology, mode: .tc, loadOptions: flows, binary: binary)
        case .fastnatXDP, .otherXDP: FastnatPath(topology, mode: .xdp, loadOptions: flows, binary: binary)
        case .fastnatAuto: FastnatPath(topology, mode: nil, loadOptions: flows, binary: binary)
        case .redirectTC, .redirectPeer, .redirectXDP, .bareTC, .bareXDP:
            RedirectPath(topology, kind, flows: plan.room)
        }
    }

    private func prepare() throws(BenchError) {
        let (client, container, host) = (topology.client, topology.container, topology.host)
        try lab { () throws(TestingError) in
            // Flows that are made in one round are still known in the next.
            for timeout in ["udp_timeout", "udp_timeout_stream"] {
                try host.setSystemControl("net.netfilter.nf_conntrack_\(timeout)", "600")
            }
            // The client has the ports that Linux gives out, and comes back to them sooner than in a minute.
            try client.namespace.setSystemControl("net.ipv4.tcp_tw_reuse", "1")
            if plan.takesFrames {
                for interface in [topology.uplinks[0], topology.containerPort()] {
                    try host.command(["ethtool", "-K", interface, "gro", "on"])
                }
                try client.namespace.command(["ethtool", "-K", "eth0", "gro", "on"])
            }
            try host.ip(["route add \(Self.flowNetwork) via \(client.v4)"])
            try setNeighbours()
            for namespace in [client.namespace, container.namespace, host] {
                try Self.setCongestionControl(in: namespace)
            }
            try path.start()
            try publish()
            if plan.isMasqueraded { try (path as? any MasqueradingPath)?.masquerade(.v4) }
        }
    }

    private func publish() throws(TestingError) {
        try path.publish(
            plan.services.map {
                PublishedPort($0.port, to: topology.container.endpoint(.v4, $0.containerPort), $0.transport)
            })
    }

    /// Publishes these ports of a path of fastnat, and no others. All flows end.
    func republish(_ services: [Service]) throws(BenchError) {
        try forgetFlows()
        try topology.host.inside { () throws(BenchError) in
            do {
                try LoadedDatapath(for: .change).datapath.removeAllMappings()
            } catch {
                throw .wrong("\(error)")
            }
        }
        plan.services = services
        try lab { () throws(TestingError) in try publish() }
    }

    /// TCP's congestion control, whatever the machine's is: the kernel's own default. bbr's throughput is what it finds out in
    /// its first tenths of a second, which a sample does not outlive.
    static let congestionControl = "cubic"

    /// On each route, because a namespace may choose only among those that the machine's administrator allows.
    private static func setCongestionControl(in namespace: NetworkNamespace) throws(TestingError) {
        let routes = try namespace.command(["ip", "-4", "route", "show"]).output
        try namespace.ip(routes.split(separator: "\n").map(routeChange))
    }

    /// The command that has a route choose, of the line that shows it: that may end in how its device is just now, which no
    /// command takes.
    static func routeChange(_ shown: Substring) -> String {
        let words = shown.split(separator: " ").filter { $0 != "linkdown" && $0 != "dead" }
        return (["route", "change"] + words + ["congctl", congestionControl[...]]).joined(separator: " ")
    }

    /// Where generated flows come from, beside the client: a part of 10.0.0.0/8.
    static let flowNetwork = "10.64.0.0/10"
    /// Its first address, in host order.
    static let firstFlowAddress: UInt32 = 10 << 24 | 64 << 16

    /// Sinks at XDP drop ARP, so nobody has to ask. On a limit nobody routes: each end has the other's MAC address.
    private func setNeighbours() throws(TestingError) {
        let (client, container, host) = (topology.client, topology.container, topology.host)
        let uplink = topology.uplinks[0]
        let clientMAC = try client.namespace.linkAddress(of: "eth0")
        let containerMAC = try container.namespace.linkAddress(of: "eth0")
        let uplinkMAC = try host.linkAddress(of: uplink)
        let gatewayMAC = try host.linkAddress(of: topology.containerInterface)
        try host.ip([
            "neigh replace \(client.v4) lladdr \(clientMAC) dev \(uplink) nud permanent",
            "neigh replace \(container.v4) lladdr \(containerMAC) dev \(topology.containerInterface) nud permanent",
        ])
        try client.namespace.ip([
            "neigh replace \(topology.hostAddress(.v4)) lladdr \(kind.isLimit ? containerMAC : uplinkMAC) dev eth0 nud permanent"
        ])
        try container.namespace.ip([
            "neigh replace 172.20.0.1 lladdr \(kind.isLimit ? clientMAC : gatewayMAC) dev eth0 nud permanent"
        ])
        if plan.layout == .bridge {
            try host.command([
                "bridge", "fdb", "replace", "\(containerMAC)", "dev", topology.containerPort(), "master", "static",
            ])
        }
    }
}
