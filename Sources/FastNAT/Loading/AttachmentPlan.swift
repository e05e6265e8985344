internal import Netlink

/// The interfaces of a load request, looked up and found fit.
struct AttachmentPlan {
    struct Interface {
        let link: Link
        let role: InterfaceRole
        let mode: UplinkMode
        /// The mode as it was asked for, of an uplink.
        let asked: HookMode
    }

    let interfaces: [Interface]
    let attachment: TCAttachment

    init(_ request: LoadRequest) throws {
        var interfaces = try Interfaces()
        var plan: [Interface] = []
        for name in request.uplinks {
            let link = try interfaces.usable(name)
            let asked = request.uplinkModes[name] ?? request.mode
            let mode = try UplinkMode(asked, for: link, features: try interfaces.xdpFeatures(link.index))
            plan.append(Interface(link: link, role: .uplink, mode: mode, asked: asked))
        }
        for name in request.containers {
            let link = try interfaces.usable(name)
            guard !plan.contains(where: { $0.link.index == link.index }) else {
                throw FastNATError.unusableInterface(
                    name, problem: "it is named as an uplink and as internal; choose one")
            }
            let mode = try UplinkMode(.tc, for: link, features: nil)
            plan.append(Interface(link: link, role: .container, mode: mode, asked: .tc))
        }
        self.interfaces = plan
        self.attachment = request.attachment
    }
}
