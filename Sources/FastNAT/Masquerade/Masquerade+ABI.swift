internal import Addresses
internal import CDatapath

extension masquerade_key {
    init(_ network: IPPrefix) {
        self.init(
            prefix_length: UInt32(network.mappedLength), source: CDatapath.address(network.address))
    }

    func network() throws(AddressError) -> IPPrefix {
        let value = source.value
        return try IPPrefix(value, length: Int(prefix_length) - (128 - value.family.bitWidth))
    }
}

extension exemption_key {
    init(masquerade: UInt32, _ destination: IPPrefix) {
        self.init(
            prefix_length: 32 + UInt32(destination.mappedLength), id: masquerade.bigEndian,
            destination: CDatapath.address(destination.address))
    }

    func prefix() throws(AddressError) -> IPPrefix {
        let value = destination.value
        return try IPPrefix(value, length: Int(prefix_length) - 32 - (128 - value.family.bitWidth))
    }
}

extension masquerade {
    /// The rule for the datapath. `present` is the address that the kernel sends from now, for kernels that do not tell a
    /// program (before 6.7); nil: none.
    init(_ rule: MasqueradeRule, uplink: UInt32, id: UInt32, present: IPAddress?) {
        let source = rule.source ?? present
        var flags = rule.source == nil ? MASQUERADE_FOLLOWS.rawValue : 0
        if !rule.limits.isEmpty { flags |= MASQUERADE_LIMITED.rawValue }
        if !rule.exempt.isEmpty { flags |= MASQUERADE_HAS_EXEMPTIONS.rawValue }
        if rule.type != .symmetric { flags |= MASQUERADE_ENDPOINT_INDEPENDENT.rawValue }
        if rule.type.filter == .endpoint { flags |= MASQUERADE_ACCEPT_ANY.rawValue }
        if rule.type.filter == .address { flags |= MASQUERADE_ACCEPT_CONTACTED.rawValue }
        self.init(
            address: source.map { CDatapath.address($0) } ?? CDatapath.address(anyOf: rule.network.family),
            uplink: uplink, id: id, flags: flags, first_port: rule.ports?.first ?? 0, last_port: rule.ports?.last ?? 0)
    }

    /// Whether it keeps one external port for one port of a container.
    var isEndpointIndependent: Bool { flags & MASQUERADE_ENDPOINT_INDEPENDENT.rawValue != 0 }

    private var type: MasqueradeType {
        guard isEndpointIndependent else { return .symmetric }
        if flags & MASQUERADE_ACCEPT_ANY.rawValue != 0 { return .endpointIndependent(.endpoint) }
        return .endpointIndependent(flags & MASQUERADE_ACCEPT_CONTACTED.rawValue != 0 ? .address : .port)
    }

    /// The rule that this entry stands for.
    func rule(network: IPPrefix, uplink: String, exempt: [IPPrefix], limits: FlowLimits) throws -> MasqueradeRule {
        try MasqueradeRule(
            network: network, uplink: uplink, source: flags & MASQUERADE_FOLLOWS.rawValue != 0 ? nil : address.value,
            ports: first_port == 0 ? nil : PortRange(first: first_port, last: last_port), exempt: exempt, type: type,
            limits: limits)
    }
}
