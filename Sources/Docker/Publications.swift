public import Addresses
public import FastNAT

/// Something of Docker's that fastnat does not do, and why.
public struct Refusal: Sendable, Hashable {
    /// The container or network, as people call it.
    public let subject: String
    /// Which of its ports or networks.
    public let what: String
    /// Why, in a sentence without a final stop.
    public let reason: String
}

/// What fastnat is to do for the containers and networks that there are.
public struct Publications: Sendable, Hashable {
    /// A network whose connections to the world are to be masqueraded.
    public struct Masquerade: Sendable, Hashable {
        /// Whose the masquerade is.
        public let owner: MappingOwner
        /// Docker's name of the network.
        public let name: String
        /// The containers' network.
        public let network: IPPrefix
        /// The address that they get, where Docker was told one.
        public let source: IPAddress?
        /// Whether Docker says that it is to be.
        public let isAsked: Bool
    }

    /// Published ports.
    public private(set) var mappings: [OwnedMapping] = []
    /// Networks that can be masqueraded.
    public private(set) var masquerades: [Masquerade] = []
    /// What cannot be done.
    public private(set) var refusals: [Refusal] = []
    /// The addresses of containers, by owner.
    public private(set) var addresses: [MappingOwner: Set<IPAddress>] = [:]
    /// The names of containers and networks, by owner.
    public private(set) var names: [MappingOwner: String] = [:]

    /// What these containers publish and networks masquerade. Containers that do not run, and so have no address, publish nothing.
    init(_ containers: [EngineContainer], _ networks: [EngineNetwork], of owners: DockerOwners) {
        let bridges = networks.filter { $0.driver == "bridge" }
        let byID = Dictionary(bridges.map { ($0.id, $0) }) { first, _ in first }
        for container in containers.sorted(by: { $0.id < $1.id }) { publish(container, byID, owners) }
        for network in bridges.sorted(by: { $0.id < $1.id }) { masquerade(network, owners) }
    }

    /// The same but for what these containers publish.
    func without(_ owners: Set<MappingOwner>) -> Publications {
        var others = self
        others.mappings.removeAll { owners.contains($0.owner) }
        return others
    }

    private mutating func publish(
        _ container: EngineContainer, _ bridges: [String: EngineNetwork], _ owners: DockerOwners
    ) {
        guard let owner = owners.owner(of: container.id) else { return }
        addresses[owner] = container.addresses
        guard let groups = container.publishedPorts else { return }
        names[owner] = container.name
        let (labels, target): (ContainerLabels, ContainerAddresses)
        do throws(LabelError) {
            labels = try ContainerLabels(container.labels ?? [:])
        } catch {
            return refuse(container.name, "every port", error.description)
        }
        guard labels.isEnabled else { return }
        target = ContainerAddresses(container.networkSettings?.networks ?? [:], bridges)
        for (place, ports) in groups {
            for run in PortRun.merging(ports) {
                do throws(UnpublishedReason) {
                    mappings.append(OwnedMapping(try place.mapping(run, target, labels), of: owner))
                } catch {
                    refuse(container.name, place.description(of: run), error.text)
                }
            }
        }
    }

    private mutating func masquerade(_ network: EngineNetwork, _ owners: DockerOwners) {
        guard let owner = owners.owner(of: network.id) else { return }
        names[owner] = network.name
        for pool in network.addresses?.pools ?? [] {
            guard let text = pool.subnet, let subnet = try? IPPrefix(parsing: text) else { continue }
            masquerades.append(
                Masquerade(
                    owner: owner, name: network.name, network: subnet, source: network.source(subnet.family),
                    isAsked: network.isMasqueraded(subnet.family)))
        }
    }

    private mutating func refuse(_ subject: String, _ what: String, _ reason: String) {
        refusals.append(Refusal(subject: subject, what: what, reason: reason))
    }
}

extension EngineContainer {
    /// All that it has, in whatever network.
    fileprivate var addresses: Set<IPAddress> {
        let endpoints = networkSettings?.networks?.values.map { $0 } ?? []
        return Set(
            endpoints.flatMap { [$0.address, $0.addressIPv6] }.compactMap { $0 }.compactMap {
                try? IPAddress(parsing: $0)
            })
    }

    /// Its published ports by where they listen; nil when there are none.
    fileprivate var publishedPorts: [(ListenPlace, [PublishedPort])]? {
        var groups: [ListenPlace: [PublishedPort]] = [:]
        for port in ports ?? [] {
            guard let host = port.hostPort, host != 0 else { continue }
            let place = ListenPlace(address: port.address ?? "", transport: port.transport)
            groups[place, default: []].append(PublishedPort(host: host, container: port.containerPort))
        }
        return groups.isEmpty ? nil : groups.sorted { $0.key < $1.key }
    }
}

extension EngineNetwork {
    private func option(_ name: String) -> String? { options?["com.docker.network.\(name)"] }

    /// Whether its connections to the world get an address of the host, as Docker has it.
    fileprivate func isMasqueraded(_ family: IPFamily) -> Bool {
        guard isInternal != true, option("bridge.enable_ip_masquerade") != "false" else { return false }
        // Docker 27 and later: routed and isolated networks keep their addresses.
        let mode = option("bridge.gateway_mode_\(family == .ipv4 ? "ipv4" : "ipv6")") ?? "nat"
        return mode.hasPrefix("nat")
    }

    /// The address that its connections get, where one was chosen.
    fileprivate func source(_ family: IPFamily) -> IPAddress? {
        option(family == .ipv4 ? "host_ipv4" : "host_ipv6").flatMap { try? IPAddress(parsing: $0) }
    }
}
