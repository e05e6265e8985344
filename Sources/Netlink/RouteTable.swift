public import Addresses
internal import CLinux
internal import CMnl

/// An entry of the kernel's routing tables.
public struct NetworkRoute: Sendable, Hashable {
    /// Where it leads; length 0 for a default route.
    public let network: IPPrefix
    /// The index of the interface that packets leave by.
    public let interfaceIndex: UInt32
}

extension NetworkRoute {
    /// The route that an `RTM_NEWROUTE` message describes, or nil for one that leads nowhere, here, or several ways.
    fileprivate init?(_ message: Message, _ family: IPFamily) {
        guard let header = message.payload(as: rtmsg.self), Int(header.rtm_type) == RTN_UNICAST else { return nil }
        let attributes = message.attributes(after: rtmsg.self, upTo: RTA_OIF.rawValue)
        guard let interfaceIndex = attributes.uint32(RTA_OIF.rawValue) else { return nil }
        let unspecified = IPAddress(mapped: (0, 0, family == .ipv4 ? UInt32(0xffff).bigEndian : 0, 0))
        let address = attributes.address(RTA_DST.rawValue) ?? unspecified
        guard let network = try? IPPrefix(address, length: Int(header.rtm_dst_len)) else { return nil }
        self.network = network
        self.interfaceIndex = interfaceIndex
    }
}

extension NetlinkSocket<RouteBus> {
    /// The unicast routes of a family, of all tables, in the kernel's order.
    public mutating func routes(_ family: IPFamily) throws(NetlinkError) -> [NetworkRoute] {
        var header = rtmsg()
        header.rtm_family = family.number
        return try dump("list the \(family) routes", type: RTM_GETROUTE, header: header) { message in
            NetworkRoute(message, family)
        }
    }
}
