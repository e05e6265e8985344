public import FastNAT

/// The owners of what is done for one Docker: `docker:4c01db0b339c`, with the identifier of a container or network.
public struct DockerOwners: Sendable, Hashable {
    private let prefix: String

    /// Owners that begin with `name` and a colon.
    ///
    /// - Throws: when that can be no owner.
    public init(_ name: String = "docker") throws(MappingError) {
        prefix = "\(name):"
        _ = try MappingOwner(prefix + shortIdentifier(String(repeating: "0", count: 64)))
    }

    /// Who owns what is done for a container or network; nil for what is no identifier.
    func owner(of id: String) -> MappingOwner? { try? MappingOwner(prefix + shortIdentifier(id)) }

    /// Whether an owner is one of these.
    func contains(_ owner: MappingOwner) -> Bool { owner.text.hasPrefix(prefix) }
}
