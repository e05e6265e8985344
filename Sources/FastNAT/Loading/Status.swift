internal import CDatapath
internal import Netlink

/// What is loaded, where, and how it fares.
public struct Status: Sendable {
    /// A program on an interface.
    public struct Program: Sendable, Hashable {
        /// The interface's name, or `#7` when it has gone.
        public let interface: String
        /// What the interface is to fastnat.
        public let role: InterfaceRole
        /// Where the program sits.
        public let hook: InterfaceHook
        /// Whether it is there: an interface may have been deleted.
        public let isAttached: Bool
        /// Why this hook, for uplinks.
        public let reason: String?
    }

    /// All programs, by interface.
    public let programs: [Program]
    /// Whether programs on the host itself reach published ports.
    public let hostAccess: HostAccess
    /// How full the table of flows is.
    public let flows: FlowCount
    /// How many mappings there are.
    public let mappings: Int
    /// How many networks are masqueraded.
    public let masquerades: Int
    /// Packets that were not forwarded, by reason.
    public let reasons: [ReasonCount]
    /// The timeouts in force.
    public let timeouts: Timeouts
    /// Kernel features in use.
    public let featuresUsed: [String]
    /// Kernel features that would be used if the kernel or the interfaces had them.
    public let featuresMissed: [String]
}

extension LoadedDatapath {
    /// Collects everything that `fastnat status` shows.
    public func status() throws(FastNATError) -> Status {
        try translating {
            var interfaces = try Interfaces()
            let attachments = currentAttachments()
            var programs: [Status.Program] = []
            for (attachment, isAlive) in attachments {
                programs.append(try describe(attachment, isAlive, &interfaces))
            }
            let (used, missed) = Self.features(attachments.filter(\.1).map(\.0))
            return Status(
                programs: programs, hostAccess: currentHostAccess(), flows: try datapath.flowCount(),
                mappings: try datapath.mappings().count, masquerades: try datapath.maps.masqueradeEntries().count,
                reasons: try datapath.reasonCounts(), timeouts: try datapath.timeouts(), featuresUsed: used,
                featuresMissed: missed)
        }
    }

    private func describe(
        _ attachment: Attachment, _ isAlive: Bool, _ interfaces: inout Interfaces
    ) throws -> Status.Program {
        let link = interfaces.link(attachment.interfaceIndex)
        return Status.Program(
            interface: link?.name ?? "#\(attachment.interfaceIndex)", role: attachment.role, hook: attachment.hook,
            isAttached: isAlive, reason: try link.flatMap { try reason(attachment, $0, &interfaces) })
    }

    /// Why an uplink has XDP, or has not: because of `--mode`, or as `auto` has it.
    private func reason(
        _ attachment: Attachment, _ link: Link, _ interfaces: inout Interfaces
    ) throws -> String? {
        guard attachment.role == .uplink else { return nil }
        let mode = attachments.mode(of: link.index)
        guard mode == .auto else { return UplinkMode.reason(choosing: mode) }
        return try UplinkMode(.auto, for: link, features: try interfaces.xdpFeatures(link.index)).reason
    }

    private static func features(_ attachments: [Attachment]) -> (used: [String], missed: [String]) {
        var used = ["bpf_timer", "bpf_loop"]
        var missed: [String] = []
        let hooks = Set(attachments.map(\.hook))
        if hooks.contains(.tcx) { used.append("tcx") }
        if hooks.contains(.clsact) {
            used.append("clsact")
            if Requirements.kernelVersion() ?? (0, 0) < (6, 6) { missed.append("tcx (Linux 6.6)") }
        }
        if hooks.contains(.xdp) { used.append("native XDP") } else { missed.append("native XDP") }
        if DatapathImage.seesChecksumStates {
            used.append("checksum states")
        } else {
            missed.append("checksum states (Linux 6.2, CONFIG_DEBUG_INFO_BTF)")
        }
        if Requirements.kernelVersion() ?? (0, 0) < (6, 3) { missed.append("XDP features of a device (Linux 6.3)") }
        return (used, missed)
    }
}
