public import Addresses
internal import BPF
internal import Netlink

extension LoadedDatapath {
    /// Masquerades a network. Attaches to the interfaces that lead to it where that is not done yet.
    public func masquerade(_ rule: MasqueradeRule) throws(FastNATError) {
        try translating {
            var interfaces = try Interfaces()
            let uplink = try interfaces.named(rule.uplink)
            try requireUplink(uplink)
            let addresses = try interfaces.addresses()
            if let source = rule.source, !addresses.contains(where: { $0.address == source }) {
                throw FastNATError.masquerade(.notLocal(source))
            }
            let outputs = try interfaces.outputs(towards: rule.network, except: attachments.uplinks())
            try requireForwarding([rule.network.family], outputs)
            let present = addresses.first {
                $0.interfaceIndex == uplink.index && $0.address.family == rule.network.family
                    && !$0.address.isLinkLocal
            }
            try connecting(outputs) {
                try attachHostSide(uplink)
                try datapath.addMasquerade(rule, uplink: uplink.index, source: present?.address)
            }
        }
    }

    /// Lets the host's own sockets share the uplink's ports with containers. The program stays when masquerading ends: sockets whose
    /// port it has changed need it as long as they live.
    private func attachHostSide(_ uplink: Link) throws {
        let program = try Descriptor(pinnedAt: "\(state.programs)/\(DatapathProgram.host.rawValue)")
        let usesClsact = attachments.all().contains { $0.hook == .clsact }
        _ = try attachments.attachTC(.host, uplink.index, program, usesClsact ? .clsact : .auto)
    }

    /// Undoes `masquerade`. Its TCP connections drain, its UDP flows end.
    public func removeMasquerade(of network: IPPrefix) throws(FastNATError) {
        try datapath.removeMasquerade(network)
    }

    /// All masquerades with their counters, sorted by network.
    public func masquerades() throws(FastNATError) -> [InstalledMasquerade] {
        var interfaces = try Interfaces()
        return try datapath.masquerades { interfaces.link($0)?.name ?? "#\($0)" }
    }

    private func requireUplink(_ link: Link) throws(FastNATError) {
        guard attachments.uplinks().contains(link.index) else {
            throw .unusableInterface(
                link.name, problem: "it is no uplink of fastnat; fastnat load --iface \(link.name) makes it one")
        }
    }
}
