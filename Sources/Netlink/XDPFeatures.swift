internal import CLinux
internal import CMnl
internal import Glibc

/// What an interface's driver can do with XDP: `NETDEV_XDP_ACT_*` of `<linux/netdev.h>`.
public struct XDPFeatures: OptionSet, Sendable, Hashable {
    /// The kernel's bits.
    public let rawValue: UInt64

    /// The features with the kernel's bits.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    private init(_ feature: netdev_xdp_act) { rawValue = UInt64(feature.rawValue) }

    /// Runs programs in the driver, with `XDP_PASS`, `XDP_DROP`, `XDP_TX` and `XDP_ABORTED`.
    public static let basic = XDPFeatures(NETDEV_XDP_ACT_BASIC)
    /// Takes `XDP_REDIRECT` from a program.
    public static let redirect = XDPFeatures(NETDEV_XDP_ACT_REDIRECT)
    /// Sends frames that another interface's program redirects to it. A veth has it only while its peer has a program
    /// or GRO.
    public static let ndoXmit = XDPFeatures(NETDEV_XDP_ACT_NDO_XMIT)
    /// Supports AF_XDP without copying.
    public static let xskZerocopy = XDPFeatures(NETDEV_XDP_ACT_XSK_ZEROCOPY)
    /// Runs programs in the hardware.
    public static let hwOffload = XDPFeatures(NETDEV_XDP_ACT_HW_OFFLOAD)
    /// Receives frames in several buffers.
    public static let rxSG = XDPFeatures(NETDEV_XDP_ACT_RX_SG)
    /// Sends redirected frames in several buffers.
    public static let ndoXmitSG = XDPFeatures(NETDEV_XDP_ACT_NDO_XMIT_SG)
}

extension NetlinkSocket<GenericBus> {
    /// What the driver of an interface can do with XDP, or nil when the kernel does not say (before 6.3).
    ///
    /// - Throws: `.noInterface` when there is no such interface.
    public mutating func xdpFeatures(interfaceIndex: UInt32) throws(NetlinkError) -> XDPFeatures? {
        guard let family = try familyNumber(NETDEV_FAMILY_NAME) else { return nil }
        var header = genlmsghdr()
        header.cmd = UInt8(truncatingIfNeeded: NETDEV_CMD_DEV_GET)
        header.version = UInt8(truncatingIfNeeded: NETDEV_FAMILY_VERSION)
        let attempt = "look up the XDP features of interface \(interfaceIndex)"
        do throws(NetlinkError) {
            return try get(attempt, type: family, header: header) { request in
                request.put(NETDEV_A_DEV_IFINDEX, interfaceIndex)
            } parse: { message in
                message.attributes(after: genlmsghdr.self, upTo: NETDEV_A_DEV_XDP_FEATURES)
                    .uint64(NETDEV_A_DEV_XDP_FEATURES).map { XDPFeatures(rawValue: $0) }
            }
        } catch .system(_, let code) where code == ENODEV || (interfaceIndex == 0 && code == ERANGE) {
            throw .noInterface("index \(interfaceIndex)")
        }
    }

    /// The number of a generic netlink family, which the kernel gives when the family registers; nil for none.
    private mutating func familyNumber(_ name: String) throws(NetlinkError) -> Int? {
        var header = genlmsghdr()
        header.cmd = UInt8(truncatingIfNeeded: CTRL_CMD_GETFAMILY)
        header.version = 1
        do throws(NetlinkError) {
            return try get("look up the netlink family \(name)", type: Int(GENL_ID_CTRL), header: header) { request in
                request.put(CTRL_ATTR_FAMILY_NAME, name)
            } parse: { message in
                message.attributes(after: genlmsghdr.self, upTo: CTRL_ATTR_FAMILY_ID)
                    .uint16(CTRL_ATTR_FAMILY_ID).map { Int($0) }
            }
        } catch .system(_, let code) where code == ENOENT {
            return nil
        }
    }
}
