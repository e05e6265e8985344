internal import FastNAT

// Whose the mappings of an attachment are: cni:NETWORK/CONTAINER/INTERFACE.

extension MappingOwner {
    /// The owner of an attachment's mappings.
    init(_ attachment: NetworkAttachment, in network: String) throws(CNIError) {
        let text =
            Self.prefix(of: network) + shortened(attachment.container, to: Self.longestContainer)
            + "/\(attachment.interface)"
        do throws(MappingError) {
            try self.init(text)
        } catch {
            throw CNIError(.mapping(error))
        }
    }

    /// Whether the mappings belong to an attachment to this network.
    func isAttached(to network: String) -> Bool { text.hasPrefix(Self.prefix(of: network)) }

    private static func prefix(of network: String) -> String { "cni:\(shortened(network, to: longestNetwork))/" }

    // Together with "cni:", two slashes and an interface's 15 bytes, 255.
    private static let longestNetwork = 112
    private static let longestContainer = 122
}

/// A name of at most `limit` bytes: a longer one is cut, and ends in `~` and a hash of the whole. No name has `~` in it.
private func shortened(_ name: String, to limit: Int) -> String {
    guard name.utf8.count > limit else { return name }
    // FNV-1a, 128 bits.
    let prime = UInt128(1) << 88 | 0x13b
    let basis = UInt128(0x6c62_272e_07bb_0142) << 64 | 0x62b8_2175_6295_c58d
    let hash = name.utf8.reduce(basis) { ($0 ^ UInt128($1)) &* prime }
    let digits = String(hash, radix: 16)
    let ending = "~" + String(repeating: "0", count: 32 - digits.count) + digits
    return name.prefix(limit - ending.utf8.count) + ending
}
