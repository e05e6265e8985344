internal import Netlink

/// The interfaces of a load request, looked up and found fit.
struct AttachmentPlan {
    struct Interface {
        let link: Link
        let role: InterfaceRole
        let mode: UplinkMode
    }

    let interfaces: [Interface]
    let attachment: TCAttachment
    /// As asked for, for the uplinks.
    let mode: HookMode

    init(_ request: LoadRequest) throws {
        var interfaces = try Interfaces()
        var plan: [Interface] = []
        for name in request.uplinks {
            let link = try interfaces.usable(name)
            let mode = try UplinkMode(request.mode, for: link, features: try interfaces.xdpFeatures(link.index))
            plan.append(Interface(link: link, role: .uplink, mode: mode))
        }
        for name in request.containers {
            let link = try interfaces.usable(name)
            guard !plan.contains(where: { $0.link.index == link.index }) else {
                throw FastNATError.unusableInterface(
                    name, problem: "it is named as an uplink and as internal; choose one")
            }
            plan.append(Interface(link: link, role: .container, mode: try UplinkMode(.tc, for: link, features: nil)))
        }
        self.interfaces = plan
        self.attachment = request.attachment
        self.mode = request.mode
    }
}
