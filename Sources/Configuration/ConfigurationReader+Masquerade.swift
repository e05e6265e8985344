internal import Addresses
internal import FastNAT
internal import Yams

extension Configuration {
    /// The keys of a masquerade.
    private enum MasqueradeKey: String, CaseIterable {
        case network
        case iface
        case to
        case ports
        case exempt
        case type
        case filter
    }

    /// One item of `masquerade`.
    mutating func masquerade(_ node: Node, _ reader: inout YAMLReader) -> MasqueradeRule? {
        guard
            let fields = reader.fields(
                of: node, MasqueradeKey.allCases.map(\.rawValue) + FlowLimit.allCases.map(\.rawValue))
        else { return nil }
        func field(_ key: MasqueradeKey) -> Node? { fields[key.rawValue]?.value }
        guard let networkField = field(.network), let uplinkField = field(.iface) else {
            reader.refuse(node, "a masquerade has a network and an iface")
            return nil
        }
        let network = network(networkField, &reader)
        let uplink = uplink(of: uplinkField, &reader)
        let source = field(.to).flatMap { field in
            value(field, "an address", &reader) { text throws(AddressError) in try IPAddress(parsing: text) }
        }
        let ports = field(.ports).flatMap { field in
            value(field, "PORT[-END]", &reader) { text throws(MappingError) in try PortRange(parsing: text) }
        }
        let type = type(field(.type), filter: field(.filter), &reader)
        let exempt = field(.exempt).map { field in
            reader.items(of: field).compactMap { item in self.network(item, &reader).map { (item, $0) } }
        }
        let limits = limits(fields.mapValues(\.value), &reader)
        guard let network, let uplink, let type else { return nil }
        if position(of: .masquerade(network)) != nil {
            reader.refuse(networkField, "\(network) is masqueraded twice: keep one")
        }
        note(.masquerade(network), at: Position(node))
        // Each part alone first, so that what is wrong is said in its place.
        let parts = (exempt ?? []).map { ($0.0, nil, [$0.1]) } + (field(.to).map { [($0, source, [])] } ?? [])
        for (place, source, exempt) in parts {
            let alone = checked(place, &reader) { () throws(MasqueradeError) in
                try MasqueradeRule(network: network, uplink: uplink, source: source, exempt: exempt)
            }
            guard alone != nil else { return nil }
        }
        return checked(node, &reader) { () throws(MasqueradeError) in
            try MasqueradeRule(
                network: network, uplink: uplink, source: source, ports: ports, exempt: (exempt ?? []).map(\.1),
                type: type, limits: limits)
        }
    }

    private mutating func uplink(of node: Node, _ reader: inout YAMLReader) -> String? {
        guard let name = reader.text(node, "the name of an uplink") else { return nil }
        if let uplinks = state.uplinks, !uplinks.contains(where: { $0.name == name }) {
            reader.refuse(node, "\(name) is none of the uplinks of this file: name it there, too")
        }
        note(.masqueradeUplink(name), at: Position(node))
        return name
    }

    private func type(_ node: Node?, filter: Node?, _ reader: inout YAMLReader) -> MasqueradeType? {
        let name = node.flatMap { reader.choice($0, of: MasqueradeType.Name.self) } ?? .symmetric
        let chosen = filter.flatMap { reader.choice($0, of: MasqueradeFilter.self) }
        guard let place = filter ?? node else { return .symmetric }
        return checked(place, &reader) { () throws(MasqueradeError) in try MasqueradeType(name, filter: chosen) }
    }
}
