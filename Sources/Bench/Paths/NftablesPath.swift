import Lab

/// The kernel's NAT with one nftables map from port to container, and optionally a flowtable, which XDP can look into.
struct NftablesPath: PublishingPath {
    let name: String
    private let host: NetworkNamespace
    private let interface: String
    private let ports: [String]
    private let hasFlowtable: Bool
    private let isXDP: Bool

    init(_ topology: Topology, _ kind: PathKind) {
        name = kind.rawValue
        host = topology.host
        interface = topology.containerInterface
        ports = [topology.uplinks[0], topology.containerPort()]
        hasFlowtable = kind != .nftables
        isXDP = kind == .xdpFlowtable
    }

    func start() throws(TestingError) {
        let flowtable =
            hasFlowtable
            ? "flowtable known { hook ingress priority 0; devices = { \(ports.joined(separator: ", ")) }; }" : ""
        let offload = hasFlowtable ? "ct state established meta l4proto { tcp, udp } flow add @known" : ""
        try nft(
            """
            table ip bench {
              map tcp_ports { type inet_service : ipv4_addr . inet_service; }
              map udp_ports { type inet_service : ipv4_addr . inet_service; }
              \(flowtable)
              chain prerouting {
                type nat hook prerouting priority dstnat;
                fib daddr type local dnat ip to tcp dport map @tcp_ports
                fib daddr type local dnat ip to udp dport map @udp_ports
              }
              chain postrouting {
                type nat hook postrouting priority srcnat;
                ip saddr \(Topology.containerNetwork(.v4)) oifname != "\(interface)" masquerade
              }
              chain forward {
                type filter hook forward priority filter; policy drop;
                \(offload)
                ct state established,related accept
                ct status dnat accept
                iifname "\(interface)" accept
              }
            }

            """)
        if isXDP { try host.command(["xdp-forward", "load", "--fwd-mode", "flowtable"] + ports) }
    }

    func publish(
        _ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol
    ) throws(TestingError) {
        try publish([PublishedPort(port, to: container, transport)])
    }

    func publish(_ ports: [PublishedPort]) throws(TestingError) {
        for (transport, ports) in Dictionary(grouping: ports, by: \.transport) {
            let elements = ports.map { "\($0.port) : \($0.container.address) . \($0.container.port)" }
            try nft("add element ip bench \(transport.rawValue)_ports { \(elements.joined(separator: ", ")) }\n")
        }
    }

    func unpublish(
        _ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol
    ) throws(TestingError) {
        try nft("delete element ip bench \(transport.rawValue)_ports { \(port) }\n")
    }

    func stop() throws(TestingError) {
        if isXDP { try host.command(["xdp-forward", "unload"] + ports) }
        try nft("delete table ip bench\n")
    }

    private func nft(_ commands: String) throws(TestingError) {
        try host.command(["nft", "-f", "-"], input: Array(commands.utf8))
    }
}
