/// A state that fastnat is to be in, in whole sections: what is nil is left as it is.
public struct DesiredState: Sendable, Hashable {
    /// An interface towards clients.
    public struct Uplink: Sendable, Hashable {
        /// Its name.
        public let name: String
        /// Which hooks to take there.
        public let mode: HookMode

        /// That interface, with these hooks.
        public init(_ name: String, mode: HookMode = .auto) {
            self.name = name
            self.mode = mode
        }
    }

    /// A mapping, and whether it may shadow a local program.
    public struct Mapping: Sendable, Hashable {
        /// The mapping.
        public let mapping: PortMapping
        /// Publish it also when a local program listens on its ports.
        public let force: Bool

        /// That mapping.
        public init(_ mapping: PortMapping, force: Bool = false) {
            self.mapping = mapping
            self.force = force
        }
    }

    /// The interfaces towards clients; others are detached.
    public var uplinks: [Uplink]?
    /// Interfaces towards containers, beside those that mappings lead to. Others stay: flows may still need them.
    public var containers: [String] = []
    /// How to attach where nothing is attached yet.
    public var attachment: TCAttachment = .auto
    /// Flows at most.
    public var maximumFlows: Int?
    /// The timeouts.
    public var timeouts: Timeouts?
    /// The mappings of `owner`; its others are removed. An equal one that was added by hand becomes the owner's.
    public var mappings: [Mapping]?
    /// The masquerades of `owner`, as with `mappings`.
    public var masquerades: [MasqueradeRule]?
    /// Whose the mappings and masquerades are. What others own is left alone.
    public var owner: MappingOwner

    /// Nothing yet, for mappings of that owner.
    public init(owner: MappingOwner) {
        self.owner = owner
    }

    /// What a load attaches to.
    var request: LoadRequest {
        var request = LoadRequest(uplinks: uplinks?.map(\.name) ?? [])
        request.uplinkModes = Dictionary(
            (uplinks ?? []).map { ($0.name, $0.mode) }, uniquingKeysWith: { first, _ in first })
        request.containers = containers
        request.attachment = attachment
        request.maximumFlows = maximumFlows
        if let timeouts { request.timeouts = TimeoutChanges(timeouts) }
        return request
    }
}

/// One thing that is not as it should be, and becomes so.
public enum StateChange: Sendable, Hashable {
    /// fastnat is loaded.
    case load(maximumFlows: Int)
    /// A program comes to an interface.
    case attach(interface: String, InterfaceRole, usesXDP: Bool)
    /// An uplink is left.
    case detach(interface: String)
    /// An uplink has another mode from now on.
    case mode(interface: String, HookMode)
    /// A timeout changes, in seconds.
    case timeout(String, from: UInt32, to: UInt32)
    /// A mapping comes.
    case add(PortMapping)
    /// A mapping takes the place of another one.
    case replace(PortMapping, with: PortMapping)
    /// A mapping that was added by hand becomes the owner's.
    case adopt(PortMapping)
    /// A mapping goes.
    case remove(PortMapping)
    /// A network is masqueraded.
    case masquerade(MasqueradeRule)
    /// A network is masqueraded in another way.
    case changeMasquerade(MasqueradeRule, to: MasqueradeRule)
    /// A masquerade that was added by hand becomes the owner's.
    case adoptMasquerade(MasqueradeRule)
    /// A network is masqueraded no more.
    case removeMasquerade(MasqueradeRule)
}

extension StateChange: CustomStringConvertible {
    /// A line that begins with `+`, `-` or `~`.
    public var description: String {
        switch self {
        case .load(let maximumFlows): "+ fastnat, with room for \(maximumFlows) flows"
        case .attach(let interface, .uplink, let usesXDP): "+ uplink \(interface), at \(usesXDP ? "XDP and TC" : "TC")"
        case .attach(let interface, .container, _), .attach(let interface, .port, _), .attach(let interface, .host, _):
            "+ internal \(interface)"
        case .detach(let interface): "- uplink \(interface)"
        case .mode(let interface, let mode): "~ uplink \(interface): mode \(mode.rawValue)"
        case .timeout(let name, let old, let new): "~ timeout \(name): \(old) s -> \(new) s"
        case .add(let mapping): "+ mapping \(mapping)"
        case .replace(let old, let new): "~ mapping \(old) -> \(new)"
        case .adopt(let mapping): "~ mapping \(mapping), added by hand, is the file's"
        case .remove(let mapping): "- mapping \(mapping)"
        case .masquerade(let rule): "+ masquerade \(rule)"
        case .changeMasquerade(let old, let new): "~ masquerade \(old) -> \(new)"
        case .adoptMasquerade(let rule): "~ masquerade \(rule), added by hand, is the file's"
        case .removeMasquerade(let rule): "- masquerade \(rule)"
        }
    }
}
