public import Addresses
internal import Netlink

extension LoadedDatapath {
    /// The name of the uplink that packets to the rest of the world leave by: the one with the default route, or the only one;
    /// nil when that cannot be told.
    public func defaultUplink(_ family: IPFamily) throws(FastNATError) -> String? {
        try translating {
            let uplinks = try currentUplinks().reduce(into: [UInt32: String]()) { $0[$1.index] = $1.name }
            if uplinks.count == 1 { return uplinks.values.first }
            var interfaces = try Interfaces()
            return try interfaces.defaultRoutes(family).lazy.compactMap { uplinks[$0] }.first
        }
    }
}

extension Interfaces {
    /// The interfaces of default routes, in the kernel's order.
    fileprivate mutating func defaultRoutes(_ family: IPFamily) throws -> [UInt32] {
        try routes(family).filter { $0.network.length == 0 }.map(\.interfaceIndex)
    }
}
