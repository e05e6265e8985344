/// A mapping in the datapath, and what it has carried.
public struct InstalledMapping: Sendable, Hashable {
    /// The mapping.
    public let mapping: PortMapping
    /// Packets of both directions.
    public let packets: UInt64
    /// Bytes of these packets: IP headers and what follows.
    public let bytes: UInt64
    /// Flows that live now.
    public let flows: Int
    /// Whose it is; nil when it was added by hand.
    public let owner: MappingOwner?

    /// Names the datapath's counters.
    let id: UInt32
}
