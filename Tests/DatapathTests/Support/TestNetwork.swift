import FastNATTesting
import Glibc

/// The host that the datapath is tested on: a namespace with an uplink and a device towards containers, and beyond each
/// of them neighbours that the kernel knows, so that it can answer for every route. Nothing but test runs moves packets
/// in it.
final class TestNetwork: Sendable {
    /// A device of the host.
    struct Device: Sendable {
        let name: String
        let index: UInt32
        let mac: Packet.MAC
    }

    let namespace: NetworkNamespace
    /// Towards clients.
    let uplink: Device
    /// Towards containers.
    let container: Device

    /// The client on the uplink's own network.
    static let clientMAC: Packet.MAC = "02:00:00:00:01:64"
    /// The router behind which all other clients are.
    static let gatewayMAC: Packet.MAC = "02:00:00:00:01:fe"
    /// The container that `Family.target` belongs to.
    static let targetMAC: Packet.MAC = "02:00:00:00:02:02"
    /// Another container.
    static let otherTargetMAC: Packet.MAC = "02:00:00:00:02:03"

    /// One for all tests that change nothing about it.
    static let shared = Result { () throws(TestingError) in try TestNetwork() }

    /// The same without default routes, where the kernel's answers to lookups are others.
    static let withoutDefaultRoutes = Result { () throws(TestingError) in
        let network = try TestNetwork()
        try network.namespace.ip(["route del 0.0.0.0/0", "route del ::/0"])
        return network
    }

    init() throws(TestingError) {
        namespace = try NetworkNamespace("datapath")
        try namespace.forward()
        try namespace.ip(
            [
                "link add uplink address 02:00:00:00:01:01 type veth peer name uplink-peer",
                "link add ctr address 02:00:00:00:02:01 type veth peer name ctr-peer",
            ]
                + ["uplink", "uplink-peer", "ctr", "ctr-peer"].flatMap {
                    ["link set \($0) addrgenmode none", "link set \($0) up"]
                })
        try namespace.ip(
            [
                "addr add 192.0.2.1/24 dev uplink", "addr add 192.0.2.2/24 dev uplink",
                "addr add 2001:db8:1::1/64 dev uplink nodad", "addr add 2001:db8:1::2/64 dev uplink nodad",
                "addr add 172.17.0.1/24 dev ctr", "addr add fd00:17::1/64 dev ctr nodad",
                "route add default via 192.0.2.254", "route add ::/0 via 2001:db8:1::fe",
            ]
                + ["192.0.2.100", "2001:db8:1::100"].map { Self.neighbour($0, Self.clientMAC, "uplink") }
                + ["192.0.2.254", "2001:db8:1::fe"].map { Self.neighbour($0, Self.gatewayMAC, "uplink") }
                + ["172.17.0.2", "fd00:17::2"].map { Self.neighbour($0, Self.targetMAC, "ctr") }
                + ["172.17.0.3", "fd00:17::3"].map { Self.neighbour($0, Self.otherTargetMAC, "ctr") })
        uplink = try Self.device("uplink", "02:00:00:00:01:01", in: namespace)
        container = try Self.device("ctr", "02:00:00:00:02:01", in: namespace)
        try awaitLocalRoute(Family.ipv6.otherHost)
    }

    /// Waits until the host takes packets to its new address for its own: IPv6 makes the route later.
    func awaitLocalRoute(_ address: Packet.Address) throws(TestingError) {
        try awaitCondition("the route to \(address)") { () throws(TestingError) in
            try namespace.command(["ip", address.isIPv6 ? "-6" : "-4", "route", "show", "table", "local"])
                .output.contains("local \(address) ")
        }
    }

    /// The line for `ip` that makes a neighbour known for good.
    static func neighbour(_ address: String, _ mac: Packet.MAC, _ device: String) -> String {
        "neigh replace \(address) lladdr \(mac) dev \(device) nud permanent"
    }

    private static func device(
        _ name: String, _ mac: Packet.MAC, in namespace: NetworkNamespace
    ) throws(TestingError) -> Device {
        Device(name: name, index: try namespace.run { if_nametoindex(name) }, mac: mac)
    }
}
