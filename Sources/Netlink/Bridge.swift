public import Addresses
internal import CLinux
internal import CMnl
internal import Glibc

/// How an interface takes part in its bridge.
public struct BridgePort: Sendable, Hashable {
    /// Whether frames go in and out: the spanning tree, and whoever else sets it, has nothing against it.
    public let isForwarding: Bool
    /// Whether the bridge remembers by which port an address sends.
    public let isLearning: Bool
    /// Whether it talks to ports that are not isolated alone.
    public let isIsolated: Bool
    /// Whether it takes frames of authorised addresses alone.
    public let isLocked: Bool
}

extension BridgePort {
    /// What a link's attributes say of it; nil when it is no port of a bridge.
    init?(_ information: Attributes) {
        guard information.string(IFLA_INFO_SLAVE_KIND) == "bridge" else { return nil }
        let port = information.nested(IFLA_INFO_SLAVE_DATA, upTo: IFLA_BRPORT_LOCKED)
        isForwarding = port.uint8(IFLA_BRPORT_STATE).map(Int32.init) == BR_STATE_FORWARDING
        isLearning = port.uint8(IFLA_BRPORT_LEARNING) != 0
        isIsolated = port.uint8(IFLA_BRPORT_ISOLATED) == 1
        isLocked = port.uint8(IFLA_BRPORT_LOCKED) == 1
    }
}

/// A hardware address that a bridge has learned, or was told.
public struct BridgeStation: Sendable, Hashable {
    /// The address.
    public let mac: MACAddress
    /// The index of the port that frames to it leave by.
    public let portIndex: UInt32
}

extension NetlinkSocket<RouteBus> {
    /// The forwarding table of a bridge, without the bridge's own addresses and those of one VLAN.
    public mutating func stations(bridgeIndex: UInt32) throws(NetlinkError) -> [BridgeStation] {
        var header = ndmsg()
        header.ndm_family = UInt8(AF_BRIDGE)
        return try dump("list what the bridge \(bridgeIndex) has learned", type: RTM_GETNEIGH, header: header) {
            request in
            request.put(NDA_MASTER, bridgeIndex)
        } parse: { message in
            BridgeStation(message, bridgeIndex: bridgeIndex)
        }
    }
}

extension BridgeStation {
    fileprivate init?(_ message: Message, bridgeIndex: UInt32) {
        guard let header = message.payload(as: ndmsg.self) else { return nil }
        let attributes = message.attributes(after: ndmsg.self, upTo: NDA_MASTER)
        guard Int32(header.ndm_state) & NUD_PERMANENT == 0, attributes.uint32(NDA_MASTER) == bridgeIndex,
            !attributes.contains(NDA_VLAN), let mac = attributes.bytes(NDA_LLADDR).flatMap({ MACAddress(bytes: $0) })
        else { return nil }
        self.mac = mac
        portIndex = UInt32(truncatingIfNeeded: header.ndm_ifindex)
    }
}
