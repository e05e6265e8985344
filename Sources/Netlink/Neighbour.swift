public import Addresses
internal import CLinux
internal import CMnl
internal import Glibc

/// What the kernel knows about a neighbour's hardware address: `NUD_*` of `<linux/neighbour.h>`.
public struct NeighbourState: OptionSet, Sendable, Hashable {
    /// The kernel's bits.
    public let rawValue: UInt16

    /// The state with the kernel's bits.
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    private init(_ bit: Int32) { rawValue = UInt16(truncatingIfNeeded: bit) }

    /// Being asked for.
    public static let incomplete = NeighbourState(NUD_INCOMPLETE)
    /// Confirmed a short while ago.
    public static let reachable = NeighbourState(NUD_REACHABLE)
    /// Known, not confirmed lately.
    public static let stale = NeighbourState(NUD_STALE)
    /// Known, about to be confirmed.
    public static let delay = NeighbourState(NUD_DELAY)
    /// Known, being confirmed.
    public static let probe = NeighbourState(NUD_PROBE)
    /// Asked for, without an answer.
    public static let failed = NeighbourState(NUD_FAILED)
    /// Needs no resolving, as on loopback.
    public static let noARP = NeighbourState(NUD_NOARP)
    /// Set by an administrator.
    public static let permanent = NeighbourState(NUD_PERMANENT)

    /// Whether the kernel would send to the hardware address: its `NUD_VALID`, which user space does not get.
    public var isResolved: Bool {
        !isDisjoint(with: [.reachable, .stale, .delay, .probe, .noARP, .permanent])
    }
}

/// An entry of the ARP or neighbour discovery table.
public struct Neighbour: Sendable, Hashable {
    /// The index of the interface that the neighbour is on.
    public let interfaceIndex: UInt32
    /// The neighbour's IP address.
    public let address: IPAddress
    /// The neighbour's hardware address; nil while it is not known.
    public let mac: MACAddress?
    /// What the kernel knows about the hardware address.
    public let state: NeighbourState
}

extension Neighbour {
    /// The entry that an `RTM_NEWNEIGH` message describes.
    fileprivate init?(_ message: Message) {
        guard let header = message.payload(as: ndmsg.self) else { return nil }
        let attributes = message.attributes(after: ndmsg.self, upTo: NDA_LLADDR)
        guard let address = attributes.address(NDA_DST) else { return nil }
        self.interfaceIndex = UInt32(truncatingIfNeeded: header.ndm_ifindex)
        self.address = address
        self.mac = attributes.bytes(NDA_LLADDR).flatMap { MACAddress(bytes: $0) }
        self.state = NeighbourState(rawValue: header.ndm_state)
    }
}

extension NetlinkSocket<RouteBus> {
    /// The neighbours on an interface, of both families, in the kernel's order; none when there is no such interface.
    public mutating func neighbours(interfaceIndex: UInt32) throws(NetlinkError) -> [Neighbour] {
        try dump("list the neighbours of interface \(interfaceIndex)", type: RTM_GETNEIGH, header: ndmsg()) { request in
            request.put(NDA_IFINDEX, interfaceIndex)
        } parse: { message in
            Neighbour(message)
        }.filter { $0.interfaceIndex == interfaceIndex }
    }

    /// The hardware address that the kernel would send to for `address` on an interface, or nil when it would have to
    /// ask first. Does not make it ask.
    ///
    /// - Throws: `.noInterface` when there is no such interface.
    public mutating func resolvedNeighbour(
        _ address: IPAddress, interfaceIndex: UInt32
    ) throws(NetlinkError) -> MACAddress? {
        var header = ndmsg()
        header.ndm_family = address.family.number
        guard interfaceIndex != 0, let number = Int32(exactly: interfaceIndex) else {
            throw .noInterface("index \(interfaceIndex)")
        }
        header.ndm_ifindex = number
        do throws(NetlinkError) {
            let entry = try get("look up the neighbour \(address)", type: RTM_GETNEIGH, header: header) { request in
                request.put(NDA_DST, address)
            } parse: { message in
                Neighbour(message)
            }
            return entry.state.isResolved ? entry.mac : nil
        } catch .system(_, let code) where code == ENOENT {
            return nil
        } catch .system(_, let code) where code == ENODEV {
            throw .noInterface("index \(interfaceIndex)")
        }
    }
}
