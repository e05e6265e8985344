internal import Addresses
internal import FastNAT

/// The network configuration that a runtime gives the plugin on standard input. What a command does not need is not looked
/// at: a container must be able to go whose ADD was refused for it.
struct NetworkConfiguration {
    private let value: JSONValue
    /// The version of the specification that the runtime speaks.
    let version: SpecificationVersion
    /// The network's name.
    let network: String

    init(_ value: JSONValue) throws(CNIError) {
        guard value.object != nil else {
            throw CNIError(.undecodable, "the network configuration is not a JSON object")
        }
        version = try SpecificationVersion(named: value["cniVersion"]?.string)
        network = value["name"]?.string ?? ""
        guard isIdentifier(network) else {
            throw Fields(value).invalid(
                "name", network, "it must be letters, digits, _, . and -, and begin with one of the first two")
        }
        self.value = value
    }

    /// What earlier plugins of the chain have made, in this configuration's version.
    func previousResult() throws(CNIError) -> AttachmentResult {
        guard let result = value["prevResult"] else {
            throw CNIError(
                .invalidConfiguration,
                "prevResult is missing: put this plugin after one that gives the container its addresses")
        }
        return try AttachmentResult(result, in: version)
    }

    /// The ports that are to be published.
    func ports() throws(CNIError) -> [HostPort] {
        try Fields(value).object("runtimeConfig")?.objects("portMappings")?.map { fields throws(CNIError) in
            try HostPort(fields)
        } ?? []
    }

    /// What the administrator wants beside that.
    func options() throws(CNIError) -> PluginOptions { try PluginOptions(Fields(value)) }

    /// The attachments that a GC is to leave alone.
    func validAttachments() throws(CNIError) -> [NetworkAttachment] {
        guard let valid = try Fields(value).objects("cni.dev/valid-attachments") else {
            throw CNIError(
                .invalidConfiguration, "cni.dev/valid-attachments is missing: nothing is collected without it")
        }
        return try valid.map { fields throws(CNIError) in
            let (container, interface) = (try fields.string("containerID") ?? "", try fields.string("ifname") ?? "")
            guard let attachment = NetworkAttachment(container: container, interface: interface) else {
                throw fields.invalid("containerID", container, "with the ifname \(interface) it names no attachment")
            }
            return attachment
        }
    }
}

/// A port of the host that is to lead to one of the container: an entry of the capability `portMappings`.
struct HostPort: Hashable {
    let hostPort: UInt16
    let containerPort: UInt16
    let transport: TransportProtocol
    /// nil: any address.
    let hostAddress: IPAddress?

    init(_ fields: Fields) throws(CNIError) {
        hostPort = try fields.port("hostPort")
        containerPort = try fields.port("containerPort")
        hostAddress = try fields.address("hostIP")
        let name = try fields.string("protocol") ?? ""
        guard let transport = name.isEmpty ? .tcp : TransportProtocol(name: name.lowercased()) else {
            throw fields.unsupported("protocol", name, "it maps tcp, udp and sctp")
        }
        self.transport = transport
    }
}
