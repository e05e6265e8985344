internal import Addresses
internal import BPF
internal import Glibc
internal import Netlink

// The side of mappings that containers are on: the interfaces which the kernel's routes to their targets name.

extension Attachments {
    /// Attaches `fastnat_container` to an interface that leads to a target.
    ///
    /// - Returns: the attachment when it is new. A target behind an uplink needs no program of its own there.
    func attachContainerSide(_ link: Link, _ program: borrowing Descriptor) throws -> Attachment? {
        let present = all().filter { $0.interfaceIndex == link.index && $0.hook != .xdp }
        for attachment in present {
            if isAlive(attachment) { return nil }
            detach(attachment)
        }
        let usesClsact = all().contains { $0.hook == .clsact }
        return try attachTC(.container, link.index, program, usesClsact ? .clsact : .auto)
    }
}

extension DatapathMaps {
    /// The addresses that mappings lead to, in the order of the mappings.
    func targets() throws -> [IPAddress] {
        var seen: Set<IPAddress> = []
        return try mappingEntries().map(\.mapping.target.address).filter { seen.insert($0).inserted }
    }

    /// Finds the interface towards each target as it is now, and attaches there: a container that was made anew on a link of
    /// its own has another one.
    ///
    /// - Returns: why targets cannot be reached.
    func connect(
        _ targets: [IPAddress], _ program: borrowing Descriptor, _ port: borrowing Descriptor,
        _ attachments: Attachments
    ) -> [FastNATError] {
        var problems: [FastNATError] = []
        var links: Set<Link> = []
        for target in targets {
            do throws(FastNATError) {
                links.insert(try connect(target, program, attachments))
            } catch {
                problems.append(error)
            }
        }
        for link in links { connectPorts(of: link, port, attachments) }
        return problems
    }

    private func connect(
        _ target: IPAddress, _ program: borrowing Descriptor, _ attachments: Attachments
    ) throws(FastNATError) -> Link {
        try translating {
            var interfaces = try Interfaces()
            let link = try interfaces.output(towards: target)
            _ = try attachments.attachContainerSide(link, program)
            try noteOutput(link, isUplink: attachments.uplinks().contains(link.index))
            return link
        }
    }

    /// The same for the interfaces that lead to masqueraded networks.
    func connect(
        _ networks: [IPPrefix], except uplinks: Set<UInt32>, _ program: borrowing Descriptor,
        _ port: borrowing Descriptor, _ attachments: Attachments
    ) -> [FastNATError] {
        var problems: [FastNATError] = []
        for network in networks {
            do throws(FastNATError) {
                try connect(network, except: uplinks, program, port, attachments)
            } catch {
                problems.append(error)
            }
        }
        return problems
    }

    private func connect(
        _ network: IPPrefix, except uplinks: Set<UInt32>, _ program: borrowing Descriptor,
        _ port: borrowing Descriptor, _ attachments: Attachments
    ) throws(FastNATError) {
        try translating {
            var interfaces = try Interfaces()
            for link in try interfaces.outputs(towards: network, except: uplinks) {
                _ = try attachments.attachContainerSide(link, program)
                try noteOutput(link, isUplink: false)
                connectPorts(of: link, port, attachments)
            }
        }
    }
}
