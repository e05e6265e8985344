/// A way to publish a container's port on the host's addresses: fastnat, or what it is compared with.
public protocol PublishingPath: Sendable {
    /// For test and benchmark reports.
    var name: String { get }
    /// Prepares the host; nothing is published yet.
    func start() throws(TestingError)
    /// Sends what arrives for `port` on any of the host's addresses to a container.
    func publish(_ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol) throws(TestingError)
    /// The same for many ports at once.
    func publish(_ ports: [PublishedPort]) throws(TestingError)
    /// Undoes a `publish` with the same arguments.
    func unpublish(_ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol) throws(TestingError)
    /// Takes everything away again.
    func stop() throws(TestingError)
}

/// A port of the host that leads to a container.
public struct PublishedPort: Sendable, Hashable {
    /// Of the host.
    public var port: UInt16
    /// Where to.
    public var container: Packet.Endpoint
    /// TCP or UDP.
    public var transport: TransportProtocol

    /// Names it.
    public init(_ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol) {
        (self.port, self.container, self.transport) = (port, container, transport)
    }
}

/// A path that also lets containers reach others under the host's address.
public protocol MasqueradingPath: PublishingPath {
    /// Gives connections that containers begin to the outside the address of the host.
    func masquerade(_ family: Topology.Family) throws(TestingError)
}

extension PublishingPath {
    /// One after the other.
    public func publish(_ ports: [PublishedPort]) throws(TestingError) {
        for port in ports { try publish(port.port, to: port.container, port.transport) }
    }
}

/// The kernel's own NAT with the rules that Docker writes, and a FORWARD policy of DROP as Docker sets it.
public struct IptablesPath: MasqueradingPath {
    /// Which implementation; the same rules either way.
    public enum Backend: String, Sendable, CaseIterable {
        /// iptables over nf_tables, the default of distributions.
        case nft
        /// The old one.
        case legacy
    }

    /// Such as `iptables-nft`.
    public var name: String { "iptables-\(backend.rawValue)" }

    private let host: NetworkNamespace
    private let bridge: String
    private let backend: Backend

    /// Publishes in the host of this topology.
    public init(_ topology: Topology, backend: Backend = .nft) {
        host = topology.host
        bridge = topology.containerInterface
        self.backend = backend
    }

    /// Writes Docker's chains.
    public func start() throws(TestingError) {
        for family in Topology.Family.allCases {
            let (network, local) = (Topology.containerNetwork(family), family == .v4 ? "127.0.0.0/8" : "::1")
            try restore(
                family,
                """
                *nat
                :DOCKER - [0:0]
                -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
                -A OUTPUT ! -d \(local) -m addrtype --dst-type LOCAL -j DOCKER
                -A POSTROUTING -s \(network) ! -o \(bridge) -j MASQUERADE
                COMMIT
                *filter
                :FORWARD DROP [0:0]
                :DOCKER - [0:0]
                -A FORWARD -o \(bridge) -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
                -A FORWARD -o \(bridge) -j DOCKER
                -A FORWARD -i \(bridge) ! -o \(bridge) -j ACCEPT
                -A FORWARD -i \(bridge) -o \(bridge) -j ACCEPT
                COMMIT

                """)
        }
    }

    /// Writes the three rules of a port: DNAT, hairpin masquerade, accept.
    public func publish(
        _ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol
    ) throws(TestingError) {
        try publish([PublishedPort(port, to: container, transport)])
    }

    /// The same for each port, in one go.
    public func publish(_ ports: [PublishedPort]) throws(TestingError) {
        try change("-A", ports)
    }

    /// Deletes the three rules.
    public func unpublish(
        _ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol
    ) throws(TestingError) {
        try change("-D", [PublishedPort(port, to: container, transport)])
    }

    /// Docker's chains have the rule from the beginning.
    public func masquerade(_ family: Topology.Family) throws(TestingError) {}

    /// Empties every chain.
    public func stop() throws(TestingError) {
        for family in Topology.Family.allCases {
            let program = program(family)
            try host.command([program, "-w", "-P", "FORWARD", "ACCEPT"])
            for table in ["nat", "filter"] {
                try host.command([program, "-w", "-t", table, "-F"])
                try host.command([program, "-w", "-t", table, "-X"])
            }
        }
    }

    private func change(_ verb: String, _ ports: [PublishedPort]) throws(TestingError) {
        for family in Topology.Family.allCases {
            let ours = ports.filter { $0.container.address.isIPv6 == (family == .v6) }
            if ours.isEmpty { continue }
            let lines =
                ["*nat"] + ours.flatMap { natRules(verb, $0) } + ["COMMIT", "*filter"]
                + ours.map { filterRule(verb, $0) } + ["COMMIT", ""]
            try restore(family, lines.joined(separator: "\n"))
        }
    }

    private func natRules(_ verb: String, _ port: PublishedPort) -> [String] {
        let (container, match) = (port.container, "-p \(port.transport.rawValue) --dport")
        let own = "-s \(container.address) -d \(container.address)"
        return [
            "\(verb) DOCKER ! -i \(bridge) \(match) \(port.port) -j DNAT --to-destination \(container)",
            "\(verb) POSTROUTING \(own) \(match) \(container.port) -j MASQUERADE",
        ]
    }

    private func filterRule(_ verb: String, _ port: PublishedPort) -> String {
        let match = "-p \(port.transport.rawValue) --dport \(port.container.port)"
        return "\(verb) DOCKER -d \(port.container.address) ! -i \(bridge) -o \(bridge) \(match) -j ACCEPT"
    }

    private func program(_ family: Topology.Family) -> String {
        (family == .v4 ? "iptables-" : "ip6tables-") + backend.rawValue
    }

    private func restore(_ family: Topology.Family, _ rules: String) throws(TestingError) {
        try host.command([program(family) + "-restore", "-w", "--noflush"], input: Array(rules.utf8))
    }
}
