/// Which hooks packets from clients are taken at.
public enum HookMode: String, Sendable, CaseIterable {
    /// Native XDP where it is safe and faster, TC always.
    case auto
    /// Native XDP and TC.
    case xdp
    /// TC alone.
    case tc
}

/// How programs are attached at TC.
public enum TCAttachment: String, Sendable, CaseIterable {
    /// tcx where the kernel has it, else clsact.
    case auto
    /// A tcx link (Linux 6.6).
    case tcx
    /// A filter on a clsact queueing discipline.
    case clsact
}

/// What to load.
public struct LoadRequest: Sendable {
    /// Names of the interfaces towards clients.
    public var uplinks: [String]
    /// Names of interfaces towards containers, beside those that mappings lead to.
    public var containers: [String] = []
    /// Which hooks to take on uplinks.
    public var mode: HookMode = .auto
    /// The same for single uplinks, by name, in place of `mode`.
    public var uplinkModes: [String: HookMode] = [:]
    /// How to attach at TC.
    public var attachment: TCAttachment = .auto
    /// Flows at most; nil: what is loaded has, or the default.
    public var maximumFlows: Int?
    /// Timeouts that are not to stay what they are, or the defaults.
    public var timeouts = TimeoutChanges()

    /// A request with defaults for everything else.
    public init(uplinks: [String]) {
        self.uplinks = uplinks
    }
}
