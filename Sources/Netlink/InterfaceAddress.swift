public import Addresses
internal import CLinux
internal import CMnl

/// An address of this host.
public struct InterfaceAddress: Sendable, Hashable {
    /// The index of the interface that has it.
    public let interfaceIndex: UInt32
    /// The host's own address, not the peer's on a point-to-point link.
    public let address: IPAddress
    /// The number of bits that the network on the link shares.
    public let prefixLength: Int
}

extension NetlinkSocket<RouteBus> {
    /// All addresses of the namespace's interfaces, of both families, in the kernel's order.
    public mutating func addresses() throws(NetlinkError) -> [InterfaceAddress] {
        try dump("list the host's addresses", type: RTM_GETADDR, header: ifaddrmsg()) { message in
            guard let header = message.payload(as: ifaddrmsg.self) else { return nil }
            let attributes = message.attributes(after: ifaddrmsg.self, upTo: IFA_LOCAL)
            // IPv6 has IFA_LOCAL only on point-to-point links, where IFA_ADDRESS is the peer's.
            guard let address = attributes.address(IFA_LOCAL) ?? attributes.address(IFA_ADDRESS) else { return nil }
            return InterfaceAddress(
                interfaceIndex: header.ifa_index, address: address, prefixLength: Int(header.ifa_prefixlen))
        }
    }
}
