internal import FastNAT

/// A published port and the container's behind it.
struct PublishedPort: Hashable {
    let host: UInt16
    let container: UInt16
}

/// Consecutive published ports that one mapping can have: the container's are consecutive as well, or one for all.
struct PortRun: Hashable {
    private(set) var host: ClosedRange<UInt16>
    private(set) var container: ClosedRange<UInt16>

    private init(_ port: PublishedPort) {
        host = port.host...port.host
        container = port.container...port.container
    }

    /// The runs of ports, from the lowest host port up. Of two with the same host port, the lower container port is taken.
    static func merging(_ ports: some Sequence<PublishedPort>) -> [PortRun] {
        let sorted = ports.sorted { ($0.host, $0.container) < ($1.host, $1.container) }
        return sorted.reduce(into: []) { runs, port in
            guard let last = runs.last else { return runs.append(PortRun(port)) }
            if last.host.upperBound == port.host { return }
            if let longer = last.followed(by: port) {
                runs[runs.count - 1] = longer
            } else {
                runs.append(PortRun(port))
            }
        }
    }

    private func followed(by port: PublishedPort) -> PortRun? {
        guard port.host == host.upperBound + 1 else { return nil }
        var run = self
        run.host = host.lowerBound...port.host
        let isAlone = host.count == 1
        if port.container == container.upperBound, isAlone || container.count == 1 { return run }
        guard container.upperBound < .max, port.container == container.upperBound + 1, isAlone || container.count > 1
        else {
            return nil
        }
        run.container = container.lowerBound...port.container
        return run
    }
}

extension PortRange {
    init(_ ports: ClosedRange<UInt16>) throws(MappingError) {
        try self.init(first: ports.lowerBound, last: ports.upperBound)
    }
}

extension FastNATError {
    /// Whether it is about single ports of a range.
    var isOfOnePort: Bool {
        switch self {
        case .portInUse, .overlap: true
        default: false
        }
    }
}

extension OwnedMapping {
    /// The same in two mappings; nil for one port.
    var halves: [OwnedMapping]? {
        let (listen, target) = (mapping.listen, mapping.target)
        guard listen.ports.count > 1 else { return nil }
        let middle = listen.ports.first + UInt16(listen.ports.count / 2 - 1)
        return try? [listen.ports.first...middle, (middle + 1)...listen.ports.last].map { ports in
            let offset = target.ports.count > 1 ? ports.lowerBound - listen.ports.first : 0
            let first = target.ports.first + offset
            let last = target.ports.count > 1 ? first + UInt16(ports.count - 1) : first
            return OwnedMapping(
                try PortMapping(
                    listen: listen.with(try PortRange(ports)),
                    target: Target(address: target.address, ports: PortRange(first...last)), allow: mapping.allow,
                    limits: mapping.limits),
                of: owner)
        }
    }
}

extension Listen {
    /// Other ports in the same place.
    fileprivate func with(_ ports: PortRange) throws(MappingError) -> Listen {
        guard let address else { return Listen(anyAddressOf: family, ports: ports, transport: transport) }
        return try Listen(address: address, ports: ports, transport: transport)
    }
}
