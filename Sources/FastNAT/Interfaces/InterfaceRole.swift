internal import BPF

/// What an interface is to fastnat.
public enum InterfaceRole: String, Sendable, Hashable {
    /// Clients are behind it.
    case uplink
    /// Containers are behind it.
    case container
    /// A port of a bridge that containers are behind.
    case port
    /// The host's own packets leave by it: an uplink that containers are masqueraded on.
    case host

    var program: DatapathProgram {
        switch self {
        case .uplink: .uplink
        case .container: .container
        case .port: .port
        case .host: .host
        }
    }

    var direction: TCDirection { self == .host ? .egress : .ingress }
}

/// Where a program sits on an interface.
public enum InterfaceHook: String, Sendable, Hashable {
    /// Native XDP.
    case xdp
    /// TC by a tcx link.
    case tcx
    /// TC by a filter on clsact.
    case clsact
}

/// A program on an interface.
public struct Attachment: Sendable, Hashable {
    /// What the interface is to us.
    public let role: InterfaceRole
    /// The interface.
    public let interfaceIndex: UInt32
    /// Where the program sits.
    public let hook: InterfaceHook

    init(role: InterfaceRole, interfaceIndex: UInt32, hook: InterfaceHook) {
        self.role = role
        self.interfaceIndex = interfaceIndex
        self.hook = hook
    }

    /// The name of its pin.
    var pinName: String { "\(role.rawValue)-\(interfaceIndex)-\(hook.rawValue)" }

    init?(pinName: String) {
        let parts = pinName.split(separator: "-")
        guard parts.count == 3, let role = InterfaceRole(rawValue: String(parts[0])), let index = UInt32(parts[1]),
            let hook = InterfaceHook(rawValue: String(parts[2]))
        else { return nil }
        self.init(role: role, interfaceIndex: index, hook: hook)
    }
}
