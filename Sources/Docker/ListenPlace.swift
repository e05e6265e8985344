internal import Addresses
internal import FastNAT

/// Where published ports listen, as Docker says it.
struct ListenPlace: Hashable, Comparable {
    let address: String
    let transport: String

    static func < (left: ListenPlace, right: ListenPlace) -> Bool {
        (left.transport, left.address) < (right.transport, right.address)
    }

    /// The mapping for a run of ports.
    func mapping(_ run: PortRun, _ target: ContainerAddresses, _ labels: ContainerLabels) throws(UnpublishedReason)
        -> PortMapping
    {
        guard let transport = TransportProtocol(name: transport) else {
            throw UnpublishedReason(text: "fastnat does not know the protocol \(transport)")
        }
        do {
            let address = try IPAddress(parsing: address.isEmpty ? "0.0.0.0" : address)
            guard let container = target.address(address.family) else {
                throw UnpublishedReason(text: "the container has no address in a bridge network of Docker's")
            }
            let allow = labels.allow?.filter { $0.family == address.family }
            if allow?.isEmpty == true {
                throw UnpublishedReason(text: "the label fastnat.allow has no \(address.family) network")
            }
            return try PortMapping(
                listen: Listen(address: address, ports: PortRange(run.host), transport: transport),
                target: Target(address: container, ports: PortRange(run.container)), allow: allow ?? [],
                limits: labels.limits)
        } catch let reason as UnpublishedReason {
            throw reason
        } catch {
            throw UnpublishedReason(text: "\(error)")
        }
    }

    /// The ports as `map list` would show them.
    func description(of run: PortRun) -> String {
        let host = address.isEmpty ? "0.0.0.0" : address.contains(":") ? "[\(address)]" : address
        let ports = run.host.count == 1 ? "\(run.host.lowerBound)" : "\(run.host.lowerBound)-\(run.host.upperBound)"
        return "\(host):\(ports)/\(transport)"
    }
}

/// Why ports are not published.
struct UnpublishedReason: Error {
    let text: String
}

/// The addresses at which a container is reached: those in the network that its default route leads to, since it answers clients
/// through that.
struct ContainerAddresses {
    private var ipv4: IPAddress?
    private var ipv6: IPAddress?

    /// Chooses as Docker chooses the default route of each family: by priority, then a network of both families, then by name.
    init(_ endpoints: [String: EngineContainer.Endpoint], _ bridges: [String: EngineNetwork]) {
        let outward = endpoints.compactMap { name, endpoint -> (String, EngineContainer.Endpoint)? in
            guard let bridge = bridges[endpoint.networkID ?? ""], bridge.isInternal != true else { return nil }
            return (name, endpoint)
        }
        let sorted = outward.sorted { left, right in
            (-(left.1.gatewayPriority ?? 0), -left.1.gateways, left.0)
                < (-(right.1.gatewayPriority ?? 0), -right.1.gateways, right.0)
        }
        for (_, endpoint) in sorted {
            ipv4 = ipv4 ?? Self.parse(endpoint.address, if: endpoint.gateway)
            ipv6 = ipv6 ?? Self.parse(endpoint.addressIPv6, if: endpoint.gatewayIPv6)
        }
    }

    private static func parse(_ address: String?, if gateway: String?) -> IPAddress? {
        guard let address, gateway?.isEmpty == false else { return nil }
        return try? IPAddress(parsing: address)
    }

    /// The address for clients of a family: of the same one, if the container has it.
    func address(_ family: IPFamily) -> IPAddress? { family == .ipv4 ? ipv4 ?? ipv6 : ipv6 ?? ipv4 }
}

extension EngineContainer.Endpoint {
    /// In how many families it has a gateway.
    fileprivate var gateways: Int { [gateway, gatewayIPv6].count { $0?.isEmpty == false } }
}
