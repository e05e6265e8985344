internal import Addresses
internal import FastNAT

/// The mappings that publish a container's ports: each port at the host's addresses of the container's families, consecutive
/// ports as one range.
struct Publication {
    let mappings: [PortMapping]

    init(_ ports: [HostPort], of addresses: [IPAddress], _ options: PluginOptions) throws(CNIError) {
        guard ports.isEmpty || !addresses.isEmpty else {
            throw CNIError(.invalidConfiguration, "prevResult has no address of the container to publish ports of")
        }
        var lines: [Line: [UInt16]] = [:]
        for port in ports {
            for line in try Line.lines(port, addresses, options) { lines[line, default: []].append(port.hostPort) }
        }
        var mappings: [PortMapping] = []
        for (line, ports) in lines {
            for range in Self.ranges(ports) { mappings.append(try line.mapping(range, options)) }
        }
        self.mappings = mappings.sorted { "\($0)" < "\($1)" }
    }

    /// Ranges of consecutive ports.
    private static func ranges(_ ports: [UInt16]) -> [ClosedRange<UInt16>] {
        var ranges: [ClosedRange<UInt16>] = []
        for port in Set(ports).sorted() {
            if let last = ranges.last, last.upperBound == port - 1 {
                ranges[ranges.count - 1] = last.lowerBound...port
            } else {
                ranges.append(port...port)
            }
        }
        return ranges
    }
}

/// What ports have in common that can be in one range.
private struct Line: Hashable {
    /// The host's address; nil: any of the family.
    let address: IPAddress?
    let family: IPFamily
    let transport: TransportProtocol
    let target: IPAddress
    /// The container's port minus the host's.
    let offset: Int

    /// A port that names an address of a family which the container has not leads to the other one's: the container then sees
    /// the host as the client.
    static func lines(_ port: HostPort, _ containers: [IPAddress], _ options: PluginOptions) throws(CNIError) -> [Line]
    {
        let wanted = port.hostAddress.map { [$0.family] } ?? containers.map(\.family)
        var lines: [Line] = []
        for family in wanted {
            guard let target = containers.first(where: { $0.family == family }) ?? containers.first else { continue }
            let named = port.hostAddress.flatMap { $0.isUnspecified ? nil : $0 }
            let conditions = options.conditions(family).destinations
            if let named, !conditions.isEmpty, !conditions.contains(named) {
                throw CNIError(
                    .invalidConfiguration,
                    "port \(port.hostPort) is for \(named), and the conditions for another address")
            }
            let hosts = named.map { [$0] } ?? conditions
            for address in hosts.isEmpty ? [nil] : hosts.map(Optional.some) {
                lines.append(
                    Line(
                        address: address, family: family, transport: port.transport, target: target,
                        offset: Int(port.containerPort) - Int(port.hostPort)))
            }
        }
        return lines
    }

    func mapping(_ ports: ClosedRange<UInt16>, _ options: PluginOptions) throws(CNIError) -> PortMapping {
        do throws(MappingError) {
            let range = try PortRange(first: ports.lowerBound, last: ports.upperBound)
            let first = UInt16(clamping: Int(ports.lowerBound) + offset)
            let targets = try PortRange(first: first, last: UInt16(clamping: Int(ports.upperBound) + offset))
            let listen =
                if let address { try Listen(address: address, ports: range, transport: transport) } else {
                    Listen(anyAddressOf: family, ports: range, transport: transport)
                }
            return try PortMapping(
                listen: listen, target: Target(address: target, ports: targets), allow: options.conditions(family).allow
            )
        } catch {
            throw CNIError(.mapping(error))
        }
    }
}
