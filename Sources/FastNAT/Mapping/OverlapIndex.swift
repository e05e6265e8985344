internal import Addresses

/// Finds the mapping that claims a port already: sorted by first port within protocol, family and address, so that each
/// look-up takes a binary search, whatever the number of mappings.
struct OverlapIndex {
    private struct Place: Hashable {
        let transport: TransportProtocol
        let family: IPFamily
        let address: IPAddress?

        init(_ mapping: PortMapping) {
            transport = mapping.listen.transport
            family = mapping.family
            address = mapping.listen.address
        }
    }

    private let places: [Place: [Entry]]

    /// A mapping, and which of it and those before it reaches furthest. Mappings that overlap are there together while a change
    /// is under way, or after it was killed.
    private struct Entry {
        let mapping: PortMapping
        let furthest: PortMapping
    }

    init(_ mappings: [PortMapping]) {
        places = Dictionary(grouping: mappings, by: Place.init).mapValues { mappings in
            var furthest: PortMapping?
            return mappings.sorted { $0.listen.ports.first < $1.listen.ports.first }.map { mapping in
                let reached =
                    furthest.map { $0.listen.ports.last > mapping.listen.ports.last ? $0 : mapping } ?? mapping
                furthest = reached
                return Entry(mapping: mapping, furthest: reached)
            }
        }
    }

    /// The mapping that shares a port with `mapping`, or nil.
    func overlap(with mapping: PortMapping) -> PortMapping? {
        guard let sorted = places[Place(mapping)] else { return nil }
        var low = 0
        var high = sorted.count
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle].mapping.listen.ports.first <= mapping.listen.ports.last {
                low = middle + 1
            } else {
                high = middle
            }
        }
        guard low > 0 else { return nil }
        let other = sorted[low - 1].furthest
        return other.listen.ports.last >= mapping.listen.ports.first ? other : nil
    }
}
