internal import FoundationEssentials
internal import Glibc
internal import Lab

/// A way of a packet that is measured.
public enum PathKind: String, Sendable, CaseIterable, Codable {
    case routing
    case iptablesNFT = "iptables-nft"
    case iptablesLegacy = "iptables-legacy"
    case nftables
    case nftFlowtable = "nft-flowtable"
    case xdpFlowtable = "xdp-flowtable"
    case dockerProxy = "docker-proxy"
    case fastnatTC = "fastnat-tc"
    case fastnatXDP = "fastnat-xdp"
    case fastnatAuto = "fastnat-auto"
    case otherTC = "other-tc"
    case otherXDP = "other-xdp"
    case redirectTC = "redirect-tc"
    case redirectPeer = "redirect-peer"
    case redirectXDP = "redirect-xdp"
    case bareTC = "bare-tc"
    case bareXDP = "bare-xdp"

    /// What ratios are to.
    public static let reference = PathKind.iptablesNFT

    /// Whether clients send to a published port of the host; otherwise to the container itself.
    var translates: Bool {
        self != .routing && !isLimit
    }

    /// Whether flows are the kernel's connection tracking's.
    var usesConnectionTracking: Bool {
        switch self {
        case .iptablesNFT, .iptablesLegacy, .nftables, .nftFlowtable, .xdpFlowtable: true
        default: false
        }
    }

    /// Whether it is the fastnat of another build, for which this one's library need not know the maps.
    public var isOther: Bool { self == .otherTC || self == .otherXDP }

    /// Whether it is this fastnat, in some mode.
    var isFastnat: Bool { self == .fastnatTC || self == .fastnatXDP || self == .fastnatAuto }

    /// Whether it is a limit, not something to use.
    var isLimit: Bool {
        switch self {
        case .redirectTC, .redirectPeer, .redirectXDP, .bareTC, .bareXDP: true
        default: false
        }
    }

    /// What nothing at its hook can be faster than: a bare NAT, and if that is not measured, what only redirects.
    var limits: [[PathKind]] {
        switch self {
        case .fastnatXDP: [[.bareXDP], [.redirectXDP]]
        case .fastnatTC, .fastnatAuto: [[.bareTC], [.redirectTC, .redirectPeer]]
        default: []
        }
    }

    /// Whether its program on the uplink is at XDP.
    var isAtXDP: Bool {
        switch self {
        case .fastnatXDP, .otherXDP, .redirectXDP, .bareXDP: true
        default: false
        }
    }

    /// Whether it is a bare NAT, the least that one is: a limit of tables and of translation.
    var isBare: Bool { self == .bareTC || self == .bareXDP }

    /// What packets go through, and how that is configured.
    public var text: String {
        switch self {
        case .routing:
            "the kernel's routing without NAT: clients send to the container's own address"
        case .iptablesNFT:
            "the kernel's NAT with the rules that Docker writes, by iptables over nf_tables; "
                + "connection tracking with a bucket of its hash table for each flow of each path, no other rules"
        case .iptablesLegacy:
            "the same rules by the old iptables"
        case .nftables:
            "the kernel's NAT with one nftables map from port to container, and an accept rule for what it translated"
        case .nftFlowtable:
            "the nftables map, and an nftables flowtable that takes established flows past the stack"
        case .xdpFlowtable:
            "the nftables flowtable, looked up at XDP by xdp-forward of xdp-tools"
        case .dockerProxy:
            "Docker's userland proxy: a process that copies"
        case .fastnatTC:
            "fastnat load --mode tc"
        case .fastnatXDP:
            "fastnat load --mode xdp"
        case .fastnatAuto:
            "fastnat load --mode auto, the default; measured where TC and XDP each have their strength"
        case .otherTC:
            "fastnat load --mode tc of another build (--against)"
        case .otherXDP:
            "fastnat load --mode xdp of another build (--against)"
        case .redirectTC:
            "limit: TC programs that redirect between the two interfaces and do nothing else, no NAT"
        case .redirectPeer:
            "limit: the same with redirect_peer towards the container"
        case .redirectXDP:
            "limit: the same as redirect-tc with XDP on the uplink"
        case .bareTC:
            "limit: a bare NAT: the flow is looked up, or entered, in a table of the same layout and size as fastnat's, its packets "
                + "counted, addresses, ports and checksums written, and redirect-peer; nothing is checked, tracked or ended"
        case .bareXDP:
            "limit: the same bare NAT, and redirect-xdp"
        }
    }

    /// Throws `.unavailable` when what it needs is not on this machine.
    func requireTools() throws(BenchError) {
        let needed: (program: String, package: String)? =
            switch self {
            case .iptablesNFT: ("iptables-nft-restore", "iptables")
            case .iptablesLegacy: ("iptables-legacy-restore", "iptables")
            case .nftables, .nftFlowtable: ("nft", "nftables")
            case .xdpFlowtable: ("xdp-forward", "xdp-tools, 1.5 or later")
            case .dockerProxy: ("docker-proxy", "docker.io")
            default: nil
            }
        if self == .nftFlowtable || self == .xdpFlowtable, isInstalled("nft"), !Self.hasFlowtables {
            throw .unavailable("this kernel has no flowtables (CONFIG_NF_FLOW_TABLE_INET)")
        }
        if let needed, !isInstalled(needed.program) {
            throw .unavailable("\(needed.program) is not installed (Debian: \(needed.package))")
        }
    }

    private func isInstalled(_ program: String) -> Bool {
        let directories = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        return directories.contains { access("\($0)/\(program)", X_OK) == 0 }
    }

    /// Asks by making one, in a namespace that then goes.
    private static let hasFlowtables: Bool = {
        let rules = "table inet probe { flowtable known { hook ingress priority 0; devices = { lo }; }; }\n"
        guard let namespace = try? NetworkNamespace("probe") else { return false }
        return (try? namespace.command(["nft", "-f", "-"], input: Array(rules.utf8))) != nil
    }()
}
