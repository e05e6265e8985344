internal import Addresses

/// Finds the mapping that claims a port already: sorted by first port within protocol, family and address, so that each
/// look-up takes a binary search, whatever the number of mappings.
struct OverlapIndex {
    private struct Owner: Hashable {
        let transport: TransportProtocol
        let family: IPFamily
        let address: IPAddress?

        init(_ mapping: PortMapping) {
            transport = mapping.listen.transport
            family = mapping.family
            address = mapping.listen.address
        }
    }

    private let owners: [Owner: [PortMapping]]

    init(_ mappings: [PortMapping]) {
        owners = Dictionary(grouping: mappings, by: Owner.init).mapValues { mappings in
            mappings.sorted { $0.listen.ports.first < $1.listen.ports.first }
        }
    }

    /// The mapping that shares a port with `mapping`, or nil.
    func overlap(with mapping: PortMapping) -> PortMapping? {
        guard let sorted = owners[Owner(mapping)] else { return nil }
        var low = 0
        var high = sorted.count
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle].listen.ports.first <= mapping.listen.ports.last {
                low = middle + 1
            } else {
                high = middle
            }
        }
        guard low > 0, sorted[low - 1].listen.ports.last >= mapping.listen.ports.first else { return nil }
        return sorted[low - 1]
    }
}
