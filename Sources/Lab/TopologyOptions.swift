extension Topology {
    /// How containers hang on the host.
    public enum Layout: String, Sendable, CaseIterable {
        /// A veth pair with the host's address on its end, `veth0`. One container only.
        case direct
        /// As Docker has it: a bridge, `br0`, with the host's address and a veth pair for each container.
        case bridge
    }

    /// IPv4 or IPv6, for tests that run over both.
    public enum Family: String, Sendable, CaseIterable {
        /// IPv4.
        case v4
        /// IPv6.
        case v6
    }

    /// What a topology consists of.
    public struct Options: Sendable {
        /// How containers hang on the host.
        public var layout: Layout
        /// Clients, on one Ethernet; more than one share a switch.
        public var clients = 1
        /// Containers.
        public var containers = 1
        /// Puts a router between the clients and the host.
        public var hasRouter = false
        /// Gives the host a second uplink, `eth1`, with a client of its own.
        public var hasSecondUplink = false
        /// false: the clients complete checksums and cut segments themselves, as if there were a wire.
        public var clientOffloads = true
        /// The same for the containers.
        public var containerOffloads = true
        /// GRO in the containers, which makes a veth receive frames that are redirected to it at XDP.
        public var containerGRO = true

        /// The smallest topology of this layout.
        public init(_ layout: Layout) { self.layout = layout }

        /// A changed copy.
        public func with(_ change: (inout Options) -> Void) -> Options {
            var copy = self
            change(&copy)
            return copy
        }
    }

    /// A client or a container: a namespace with one interface, `eth0`.
    public struct Node: Sendable {
        /// Its namespace.
        public let namespace: NetworkNamespace
        /// Its IPv4 address.
        public let v4: Packet.Address
        /// Its IPv6 address.
        public let v6: Packet.Address

        /// Its address of that family.
        public func address(_ family: Family) -> Packet.Address { family == .v4 ? v4 : v6 }

        /// Its address of that family, with a port.
        public func endpoint(_ family: Family, _ port: UInt16) -> Packet.Endpoint {
            Packet.Endpoint(address(family), port: port)
        }
    }
}

/// The two networks of a link and the place of its first address in them.
struct Subnet: Sendable {
    var v4: String
    var v6: String

    static let uplink = Subnet(v4: "192.0.2.", v6: "2001:db8:1::")
    static let secondUplink = Subnet(v4: "198.51.100.", v6: "2001:db8:2::")
    static let behindRouter = Subnet(v4: "203.0.113.", v6: "2001:db8:3::")
    static let containers = Subnet(v4: "172.20.0.", v6: "fd00:20::")

    func v4(_ host: Int) -> String { v4 + String(host) }
    func v6(_ host: Int) -> String { v6 + String(host, radix: 16) }

    /// The lines for `ip -batch` that give the host its addresses on `interface` and bring that up.
    func assign(_ host: Int, to interface: String) -> [String] {
        [
            "address add \(v4(host))/24 dev \(interface)", "address add \(v6(host))/64 dev \(interface) nodad",
            "link set \(interface) up",
        ]
    }

    /// The lines that make a host of this subnet the gateway to `v4` and `v6`.
    func route(_ v4: String = "0.0.0.0/0", _ v6: String = "::/0", via host: Int) -> [String] {
        ["route add \(v4) via \(self.v4(host))", "route add \(v6) via \(self.v6(host))"]
    }
}
