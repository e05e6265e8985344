internal import Addresses
internal import BPF
internal import Glibc
internal import Netlink

/// Questions about the interfaces, routes and sockets of this network namespace.
struct Interfaces: ~Copyable {
    private var route: RouteNetlink

    init() throws(FastNATError) {
        do throws(NetlinkError) {
            let route = try RouteNetlink()
            self.route = route
        } catch {
            throw .netlink(error)
        }
    }

    /// The interface of a name.
    mutating func named(_ name: String) throws -> Link {
        do throws(NetlinkError) {
            return try route.link(name: name)
        } catch .noInterface {
            throw FastNATError.noInterface(name)
        }
    }

    /// The interface of a name, fit to have programs attached.
    mutating func usable(_ name: String) throws -> Link {
        let link = try named(name)
        try refuseUnusable(link)
        return link
    }

    private mutating func refuseUnusable(_ link: Link) throws {
        if link.isLoopback {
            throw FastNATError.unusableInterface(link.name, problem: "it is the loopback; name the one towards clients")
        }
        guard link.isEthernet else {
            throw FastNATError.unusableInterface(
                link.name, problem: "its packets have no Ethernet header; tunnels and PPP are not supported")
        }
        if let master = link.masterIndex, let master = try? route.link(index: master),
            ["bridge", "bond", "team"].contains(master.kind ?? "")
        {
            throw FastNATError.unusableInterface(
                link.name, problem: "it is a port of the \(master.kind ?? "") \(master.name); name that one")
        }
    }

    /// The interface of an index, or nil when it has gone.
    mutating func link(_ index: UInt32) -> Link? { try? route.link(index: index) }

    /// The ports of a bridge; none of an interface that is no bridge.
    mutating func ports(of bridge: Link) -> [Link] {
        guard bridge.kind == "bridge" else { return [] }
        return (try? route.links(masterIndex: bridge.index)) ?? []
    }

    /// What a bridge has learned.
    mutating func stations(of bridge: Link) -> [BridgeStation] {
        (try? route.stations(bridgeIndex: bridge.index)) ?? []
    }

    /// What the driver can do at XDP; nil: the kernel cannot tell.
    mutating func xdpFeatures(_ index: UInt32) throws -> XDPFeatures? {
        var generic = try GenericNetlink()
        return try generic.xdpFeatures(interfaceIndex: index)
    }

    /// Whether packets can be given to the other end of a veth without anybody missing them: it is in a namespace of its own, and
    /// neither a queueing discipline nor a program is there on their way. What cannot be found out counts as no.
    mutating func isPassable(_ link: Link) -> Bool {
        guard link.kind == "veth", link.queueingDiscipline == "noqueue", let end = link.foreignParent,
            (try? route.hasClsactEgressFilters(interfaceIndex: link.index)) == false,
            (try? route.hasXDPProgram(end)) == false
        else { return false }
        do throws(BPFError) {
            return try AttachPoint.tcx(.egress).programCount(interfaceIndex: link.index) == 0
        } catch {
            return error.code == EINVAL  // before Linux 6.6
        }
    }

    /// The address that this host itself would send from; nil when there is no route.
    mutating func hostAddress(towards target: IPAddress) -> IPAddress? {
        (try? route.route(to: target))?.preferredSource
    }

    /// The interface that packets to anywhere leave by: that of the first default route.
    mutating func defaultUplink(_ family: IPFamily) -> String? {
        guard let routes = try? route.routes(family) else { return nil }
        return routes.first { $0.network.length == 0 }.flatMap { link($0.interfaceIndex)?.name }
    }

    /// The unicast routes of a family, of all tables.
    mutating func routes(_ family: IPFamily) throws -> [NetworkRoute] { try route.routes(family) }

    /// All addresses of this host.
    mutating func addresses() throws -> [InterfaceAddress] { try route.addresses() }

    /// The interfaces that routes within a network, or the nearest one around it, lead through; `uplinks` are left out, and
    /// those that programs do not fit on. Throws `.networkNotRoutable` when none is left.
    mutating func outputs(towards network: IPPrefix, except uplinks: Set<UInt32>) throws -> [Link] {
        let routes = try route.routes(network.family).filter { !uplinks.contains($0.interfaceIndex) }
        let around = routes.filter { $0.network.contains(network) }.max { $0.network.length < $1.network.length }
        let within = routes.filter { network.contains($0.network) && $0.network.length > 0 }
        let links = Set((within + [around].compactMap(\.self)).map(\.interfaceIndex)).compactMap { link($0) }
            .filter { $0.isEthernet && !$0.isLoopback }.sorted { $0.index < $1.index }
        guard !links.isEmpty else { throw FastNATError.networkNotRoutable(network) }
        return links
    }

    /// The names of the interfaces that default routes of these families lead through, and that programs fit on.
    mutating func defaultUplinks(_ families: [IPFamily]) throws -> [String] {
        var names: [String] = []
        for family in families {
            for route in try route.routes(family) where route.network.length == 0 {
                guard let link = link(route.interfaceIndex), (try? refuseUnusable(link)) != nil else { continue }
                if !names.contains(link.name) { names.append(link.name) }
            }
        }
        return names
    }

    /// The interface that packets to a target leave through. Throws `.notRoutable` when there is none that programs fit on.
    mutating func output(towards target: IPAddress) throws -> Link {
        let found: Route
        do throws(NetlinkError) {
            found = try route.route(to: target)
        } catch .noRoute {
            throw FastNATError.notRoutable(target, problem: "there is no route to it; is its network up?")
        }
        guard found.kind == .unicast else {
            throw FastNATError.notRoutable(
                target, problem: "it is an address of this host; publish a container's address")
        }
        guard let link = link(found.interfaceIndex) else {
            throw FastNATError.notRoutable(target, problem: "the interface towards it has just gone; try again")
        }
        guard link.isEthernet else {
            throw FastNATError.notRoutable(target, problem: "the interface \(link.name) towards it is not Ethernet")
        }
        return link
    }
}
