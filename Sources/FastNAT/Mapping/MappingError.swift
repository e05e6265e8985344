public import Addresses

/// Why a mapping, or a part of one, was refused. Its description is one sentence that also says what to do.
public enum MappingError: Error, Hashable, Sendable {
    /// An address or network in the mapping is wrong.
    case invalidAddress(AddressError)
    /// A text is no port or range of ports.
    case invalidPorts(String, problem: String)
    /// Port 0 was given, which is no port on the wire.
    case portZero(String)
    /// A range ends before it begins.
    case reversedPorts(first: UInt16, last: UInt16)
    /// The protocol is none that we know.
    case unknownProtocol(String)
    /// A text has not the form of a listen part, a target, or a whole mapping.
    case malformed(Part, text: String, problem: String)
    /// The address cannot be listened on.
    case unusableListenAddress(IPAddress, kind: String)
    /// Packets cannot be forwarded to the address.
    case unusableTargetAddress(IPAddress, kind: String)
    /// The ranges of a listen part and its target have different lengths.
    case rangeLengthMismatch(listen: PortRange, target: PortRange)
    /// An allowed network is of another family than the mapping, so it could never match.
    case allowFamilyMismatch(IPPrefix, mapping: IPFamily)
    /// The target of an SCTP mapping has other ports than those that are published.
    case sctpPorts(listen: PortRange, target: PortRange)
    /// The target of an SCTP mapping is of another family.
    case sctpFamilies
    /// A text is no limit of flows.
    case invalidLimit(FlowLimit, String, form: String)
    /// A text cannot name an owner.
    case invalidOwner(String, problem: String)
    /// Two mappings claim the same port.
    case overlap(PortMapping, with: PortMapping)

    /// What a malformed text should have been.
    public enum Part: String, Sendable, Hashable {
        /// `[HOSTIP:]PORT[-END][/PROTOCOL]`
        case listen = "[HOSTIP:]PORT[-END][/tcp|/udp|/sctp]"
        /// `IP:PORT[-END]`
        case target = "IP:PORT[-END]"
        /// `LISTEN TARGET [allow=CIDR[,CIDR…]] [limit-flows=N …]`
        case mapping = "LISTEN TARGET [allow=CIDR,…] [limit-flows=N …]"
    }
}

extension MappingError: CustomStringConvertible {
    /// One sentence without a final stop: what is wrong, and what to write instead.
    public var description: String {
        switch self {
        case .invalidAddress(let error):
            return error.description
        case .invalidPorts(let text, let problem):
            return "\(quoted(text)): \(problem); write a port from 1 to 65535 or a range like 8000-8099"
        case .portZero(let text):
            return "\(quoted(text)): port 0 is not a port; write a port from 1 to 65535"
        case .reversedPorts(let first, let last):
            return "the range \(first)-\(last) ends before it begins; write \(last)-\(first)"
        case .unknownProtocol(let text):
            return "\(quoted(text)) is not a protocol that can be mapped; write tcp, udp or sctp"
        case .malformed(let part, let text, let problem):
            return "\(quoted(text)): \(problem); write \(part.rawValue)"
        case .unusableListenAddress(let address, let kind):
            return "cannot listen on the \(kind) address \(address); give a host's address, or leave it out for all"
        case .unusableTargetAddress(let address, let kind):
            return "cannot forward to the \(kind) address \(address); give the container's own address"
        case .rangeLengthMismatch(let listen, let target):
            return "\(listen) is \(listen.count) ports but the target's \(target) is \(target.count); "
                + "give ranges of the same length or a single target port"
        case .allowFamilyMismatch(let prefix, let family):
            return "the allowed network \(prefix) can never match in an \(family) mapping; "
                + "give \(family) networks only"
        case .sctpPorts(let listen, let target):
            return
                "SCTP cannot be mapped from \(listen) to \(target): its CRC32c covers the ports and the datapath cannot "
                + "compute one, so ports stay; let the program listen on \(listen), or publish \(target)"
        case .sctpFamilies:
            return "SCTP cannot be mapped between IPv4 and IPv6: its packets name addresses of their family; give a "
                + "target of the family that is listened on"
        case .invalidLimit(let limit, let text, let form):
            return "\(limit.rawValue) \(quoted(text)): write \(form)"
        case .invalidOwner(let text, let problem):
            return "\(quoted(text)) cannot name an owner: \(problem); write a short text like docker:4c01db0b339c"
        case .overlap(let mapping, let other):
            return "\"\(mapping)\" claims ports that \"\(other)\" already has; remove one or change its ports"
        }
    }

    private func quoted(_ text: String) -> String {
        let longest = 80
        return (text.utf8.count > longest ? text.prefix(longest) + "…" : text[...]).debugDescription
    }
}
