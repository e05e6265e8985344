internal import Netlink

/// Whether an uplink gets XDP beside TC, and why.
struct UplinkMode: Sendable, Hashable {
    let usesXDP: Bool
    let reason: String

    /// Decides for `mode`. Throws `.unusableInterface` for `.xdp` where there is no native XDP.
    init(_ mode: HookMode, for link: Link, features: XDPFeatures?) throws(FastNATError) {
        let hasXDP = features.map { $0.contains(.basic) && $0.contains(.redirect) }
        switch mode {
        case .tc:
            self.init(usesXDP: false, reason: Self.reason(choosing: mode))
        case .xdp:
            guard hasXDP != false else {
                throw .unusableInterface(
                    link.name, problem: "its driver (\(link.kind ?? "hardware")) has no native XDP; use --mode tc")
            }
            self.init(usesXDP: true, reason: Self.reason(choosing: mode))
        case .auto:
            self.init(automaticFor: link, hasXDP: hasXDP)
        }
    }

    /// Why, where the user said so.
    static func reason(choosing mode: HookMode) -> String { "chosen by --mode \(mode.rawValue)" }

    private init(automaticFor link: Link, hasXDP: Bool?) {
        if link.kind == "veth" {
            self.init(usesXDP: false, reason: "XDP on a veth takes segmentation offload away from its peer")
        } else if let kind = link.kind {
            self.init(usesXDP: false, reason: "a \(kind) has no driver of its own for XDP")
        } else if hasXDP == true {
            self.init(usesXDP: true, reason: "the driver has native XDP")
        } else if hasXDP == nil {
            self.init(
                usesXDP: false, reason: "the kernel cannot tell whether the driver has native XDP (Linux 6.3 can)")
        } else {
            self.init(usesXDP: false, reason: "the driver has no native XDP")
        }
    }

    private init(usesXDP: Bool, reason: String) {
        self.usesXDP = usesXDP
        self.reason = reason
    }
}
