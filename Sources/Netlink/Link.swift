public import Addresses
internal import CLinux
internal import CMnl
internal import Glibc

/// A network interface.
public struct Link: Sendable, Hashable {
    /// The interface's number in its namespace, 1 or more.
    public let index: UInt32
    /// The interface's name.
    public let name: String
    /// The driver of a virtual interface, such as `bridge`, `veth`, `bond` or `vlan`; nil for a physical one and `lo`.
    public let kind: String?
    /// The index of the bridge, bond or VRF that it is a port of.
    public let masterIndex: UInt32?
    /// The index of the interface that it is on, in this namespace: a VLAN's device or a veth's other end.
    public let parentIndex: UInt32?
    /// The same in another namespace.
    public let foreignParent: ForeignLink?
    /// The kind of queue that packets leave through, such as `noqueue`, `fq_codel` or `tbf`.
    public let queueingDiscipline: String?
    /// The hardware address, when it is 48 bits.
    public let mac: MACAddress?
    /// How it takes part in the bridge that it is a port of; nil when it is none.
    public let bridgePort: BridgePort?
    /// Whether it is a bridge that tells VLANs apart.
    public let filtersVLANs: Bool
    /// The largest packet without the link header, in bytes.
    public let mtu: UInt32
    /// Whether it is switched on (`IFF_UP`); a carrier is another matter.
    public let isUp: Bool
    /// Whether it is the loopback interface.
    public let isLoopback: Bool
    /// What link headers look like, `ARPHRD_*` of `<net/if_arp.h>`.
    public let hardwareType: UInt16

    /// Whether packets have Ethernet headers.
    public var isEthernet: Bool { Int32(hardwareType) == ARPHRD_ETHER }
}

/// An interface of another network namespace.
public struct ForeignLink: Sendable, Hashable {
    /// The number by which this namespace knows the other one.
    public let namespace: UInt32
    /// The interface's number there.
    public let index: UInt32
}

extension Link {
    /// The interface that an `RTM_NEWLINK` message describes.
    fileprivate init?(_ message: Message) {
        guard let header = message.payload(as: ifinfomsg.self) else { return nil }
        let attributes = message.attributes(after: ifinfomsg.self, upTo: IFLA_LINK_NETNSID)
        guard let name = attributes.string(IFLA_IFNAME), let mtu = attributes.uint32(IFLA_MTU) else { return nil }
        let parent = attributes.uint32(IFLA_LINK).flatMap { $0 == 0 ? nil : $0 }
        let namespace = attributes.uint32(IFLA_LINK_NETNSID)
        self.index = UInt32(truncatingIfNeeded: header.ifi_index)
        self.name = name
        let information = attributes.nested(IFLA_LINKINFO, upTo: IFLA_INFO_SLAVE_DATA)
        self.kind = information.string(IFLA_INFO_KIND)
        self.bridgePort = BridgePort(information)
        let bridge = information.nested(IFLA_INFO_DATA, upTo: IFLA_BR_VLAN_FILTERING)
        self.filtersVLANs = kind == "bridge" && bridge.uint8(IFLA_BR_VLAN_FILTERING) != 0
        self.masterIndex = attributes.uint32(IFLA_MASTER)
        self.parentIndex = namespace == nil ? parent : nil
        self.foreignParent = namespace.flatMap { number in parent.map { ForeignLink(namespace: number, index: $0) } }
        self.queueingDiscipline = attributes.string(IFLA_QDISC)
        self.mac = attributes.bytes(IFLA_ADDRESS).flatMap { MACAddress(bytes: $0) }
        self.mtu = mtu
        self.isUp = header.ifi_flags & UInt32(IFF_UP) != 0
        self.isLoopback = header.ifi_flags & UInt32(IFF_LOOPBACK) != 0
        self.hardwareType = header.ifi_type
    }
}

extension NetlinkSocket<RouteBus> {
    /// The interface with this index.
    ///
    /// - Throws: `.noInterface` when the namespace has none.
    public mutating func link(index: UInt32) throws(NetlinkError) -> Link {
        var header = ifinfomsg()
        guard index != 0, let number = Int32(exactly: index) else { throw .noInterface("index \(index)") }
        header.ifi_index = number
        return try link("index \(index)", header) { _ in }
    }

    /// The interface with this name, or with this alternative name.
    ///
    /// - Throws: `.noInterface` when the namespace has none.
    public mutating func link(name: String) throws(NetlinkError) -> Link {
        let length = name.utf8.count
        guard length > 0, !name.utf8.contains(0) else {
            throw .noInterface(name.debugDescription)
        }
        return try link(name, ifinfomsg()) { request in
            request.put(length < Int(IFNAMSIZ) ? IFLA_IFNAME : IFLA_ALT_IFNAME, name)
        }
    }

    private mutating func link(
        _ interface: String, _ header: ifinfomsg, _ attributes: (Request) -> Void
    ) throws(NetlinkError) -> Link {
        do throws(NetlinkError) {
            return try get("look up the interface \(interface)", type: RTM_GETLINK, header: header) { request in
                attributes(request)
                request.put(IFLA_EXT_MASK, UInt32(RTEXT_FILTER_SKIP_STATS))
            } parse: { message in
                Link(message)
            }
        } catch .system(_, let code) where code == ENODEV || code == ERANGE {
            throw .noInterface(interface)
        }
    }

    /// Whether an XDP program is on an interface of another namespace.
    public mutating func hasXDPProgram(_ link: ForeignLink) throws(NetlinkError) -> Bool {
        var header = ifinfomsg()
        header.ifi_index = Int32(truncatingIfNeeded: link.index)
        return try get("look up the other end of a veth", type: RTM_GETLINK, header: header) { request in
            request.put(IFLA_TARGET_NETNSID, link.namespace)
            request.put(IFLA_EXT_MASK, UInt32(RTEXT_FILTER_SKIP_STATS))
        } parse: { message in
            let attributes = message.attributes(after: ifinfomsg.self, upTo: IFLA_XDP)
            return attributes.nested(IFLA_XDP, upTo: IFLA_XDP_ATTACHED).uint8(IFLA_XDP_ATTACHED) ?? 0 != 0
        }
    }

    /// All interfaces of the namespace, in the order of their indices; or those that are ports of one.
    public mutating func links(masterIndex: UInt32? = nil) throws(NetlinkError) -> [Link] {
        try dump("list the interfaces", type: RTM_GETLINK, header: ifinfomsg()) { request in
            request.put(IFLA_EXT_MASK, UInt32(RTEXT_FILTER_SKIP_STATS))
            if let masterIndex { request.put(IFLA_MASTER, masterIndex) }
        } parse: { message in
            Link(message)
        }.filter { masterIndex == nil || $0.masterIndex == masterIndex }.sorted { $0.index < $1.index }
    }
}
