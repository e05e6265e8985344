/// A mapping, and whose it is.
public struct OwnedMapping: Sendable, Hashable {
    /// The mapping.
    public let mapping: PortMapping
    /// Whose it is.
    public let owner: MappingOwner

    /// That mapping of that owner.
    public init(_ mapping: PortMapping, of owner: MappingOwner) {
        self.mapping = mapping
        self.owner = owner
    }
}
