public import Addresses

/// Who may send to the external port of a container that it has not sent to: filtering behaviour, RFC 4787, section 5.
public enum MasqueradeFilter: String, Sendable, Hashable, CaseIterable {
    /// Anybody (endpoint-independent).
    case endpoint
    /// Every port of the addresses that it has sent to (address-dependent).
    case address
    /// Nobody but whom it has sent to (address- and port-dependent).
    case port
}

/// Which external port the connections of one container's address and port have: mapping behaviour, RFC 4787, section 4.
public enum MasqueradeType: Sendable, Hashable {
    /// One of their own for each, which several may share as long as they go to different destinations.
    case symmetric
    /// The same for all, whatever their destinations.
    case endpointIndependent(MasqueradeFilter)

    /// The filter of an endpoint-independent one.
    public var filter: MasqueradeFilter? {
        if case .endpointIndependent(let filter) = self { filter } else { nil }
    }

    /// `symmetric` or `eim`.
    public var name: String { (self == .symmetric ? Name.symmetric : .eim).rawValue }

    /// What a type is called.
    public enum Name: String, Sendable, Hashable, CaseIterable {
        /// `.symmetric`
        case symmetric
        /// `.endpointIndependent`
        case eim
    }

    /// The type of a name.
    ///
    /// - Parameter filter: that of `eim`. Default: address-dependent, where it is not to be as open as it can (RFC 4787, REQ-8).
    /// - Throws: when a type has a filter that is not its own.
    public init(_ name: Name, filter: MasqueradeFilter?) throws(MasqueradeError) {
        guard name == .eim || filter == nil else { throw .filterOfSymmetric }
        self = name == .eim ? .endpointIndependent(filter ?? .address) : .symmetric
    }
}

/// A rule of the NAT: connections that begin in `network` and leave by `uplink` have an address and port of this host.
///
/// A valid rule by construction.
public struct MasqueradeRule: Sendable, Hashable {
    /// The containers' network.
    public let network: IPPrefix
    /// The interface that their packets leave by; what leaves by another one is left alone.
    public let uplink: String
    /// The address that they get; nil: the one that the kernel would send from, as it is then.
    public let source: IPAddress?
    /// The ports that they get; nil: any, a server's for a server's.
    public let ports: PortRange?
    /// Networks to which they keep their own address, sorted, without duplicates.
    public let exempt: [IPPrefix]
    /// How ports are given out.
    public let type: MasqueradeType
    /// How many flows there may be; a source is a container's address.
    public let limits: FlowLimits

    /// A rule of checked parts.
    ///
    /// - Throws: when a part is of another family than the network, or when no host can have the source address.
    public init(
        network: IPPrefix, uplink: String, source: IPAddress? = nil, ports: PortRange? = nil, exempt: [IPPrefix] = [],
        type: MasqueradeType = .symmetric, limits: FlowLimits = FlowLimits()
    ) throws(MasqueradeError) {
        if let source {
            guard source.family == network.family else { throw .otherFamily("\(source)", network: network) }
            if source.unusableKind != nil || source.isLoopback || source.isLinkLocal { throw .unusableSource(source) }
        }
        for prefix in exempt where prefix.family != network.family {
            throw .otherFamily("\(prefix)", network: network)
        }
        self.network = network
        self.uplink = uplink
        self.source = source
        self.ports = ports
        self.exempt = exempt.count < 2 ? exempt : Set(exempt).sorted()
        self.type = type
        self.limits = limits
    }
}

extension MasqueradeRule: CustomStringConvertible {
    /// The network, and what a file says of it: `172.17.0.0/16 iface=eth0 ports=32768-60999 type=eim filter=address`.
    public var description: String {
        let options: [(String, String?)] = [
            ("iface", uplink), ("to", source?.description), ("ports", ports?.description),
            ("exempt", exempt.isEmpty ? nil : exempt.map(\.description).joined(separator: ",")),
            ("type", type == .symmetric ? nil : type.name), ("filter", type.filter?.rawValue),
        ]
        return network.description + options.compactMap { name, value in value.map { " \(name)=\($0)" } }.joined()
            + (limits.isEmpty ? "" : " \(limits)")
    }
}

/// A rule in the datapath, and what it has carried.
public struct InstalledMasquerade: Sendable, Hashable {
    /// The rule; the name of an uplink that has gone is `#` and its index.
    public let rule: MasqueradeRule
    /// Packets of both directions.
    public let packets: UInt64
    /// Bytes of these packets: IP headers and what follows.
    public let bytes: UInt64
    /// Flows that live now.
    public let flows: Int
    /// Whose it is; nil when it was added by hand.
    public let owner: MappingOwner?
}

/// Why a masquerade, or a part of one, was refused. Its description is one sentence that also says what to do.
public enum MasqueradeError: Error, Hashable, Sendable {
    /// An address or network of another family could never match.
    case otherFamily(String, network: IPPrefix)
    /// No packet can be sent from this address.
    case unusableSource(IPAddress)
    /// The source address belongs to somebody else: replies would not come back.
    case notLocal(IPAddress)
    /// A filter for a type that has none.
    case filterOfSymmetric
}

extension MasqueradeError: CustomStringConvertible {
    /// One sentence without a final stop.
    public var description: String {
        switch self {
        case .otherFamily(let part, let network):
            "\(part) is of another address family than the network \(network): give both in the same family"
        case .unusableSource(let address):
            "containers cannot be seen as \(address): give an address of this host that others can reach"
        case .notLocal(let address):
            "\(address) is no address of this host, so replies to it would not come back: ip address add it first, or "
                + "give another one"
        case .filterOfSymmetric:
            "filter is for the type eim (--type eim): a symmetric masquerade lets in only whom a container has sent to"
        }
    }
}
