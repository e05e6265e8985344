internal import Addresses
internal import FastNAT
internal import Glibc

/// The CNI plugin `fastnat-cni`: publishes the ports of a container to which other plugins have given an interface.
public enum Plugin {
    /// What the plugin prints on standard output, and whether it did what it was asked.
    public struct Response: Sendable, Hashable {
        /// JSON, or nothing.
        public let output: String
        /// Whether it is no error.
        public let succeeded: Bool
    }

    /// Does what the environment and the network configuration ask for.
    ///
    /// - Parameter note: takes a sentence for the runtime's log.
    public static func respond(
        environment: [String: String], input: () throws(CNIError) -> [UInt8], note: @escaping (String) -> Void
    ) -> Response {
        var version = SpecificationVersion.latest
        do throws(CNIError) {
            let invocation = try Invocation(environment: environment)
            let text = try input()
            let value = text.isEmpty && invocation.command == .version ? .null : try JSONValue(parsing: text)
            if let named = value["cniVersion"]?.string.flatMap(SpecificationVersion.init) { version = named }
            let result = try perform(invocation, value, version, note)
            return Response(output: try result?.text() ?? "", succeeded: true)
        } catch {
            let output = (try? error.value(for: version).text()) ?? "{}"
            return Response(output: output, succeeded: false)
        }
    }

    private static func perform(
        _ invocation: Invocation, _ value: JSONValue, _ version: SpecificationVersion,
        _ note: @escaping (String) -> Void
    ) throws(CNIError) -> JSONValue? {
        if invocation.command == .version { return versions(version) }
        let configuration = try NetworkConfiguration(value)
        guard configuration.version >= invocation.command.since else {
            throw CNIError(
                .incompatibleVersion,
                "\(invocation.command.rawValue) is there since \(invocation.command.since.rawValue), and cniVersion is "
                    + configuration.version.rawValue)
        }
        switch (invocation.command, invocation.attachment) {
        case (.add, let attachment?):
            return try AttachmentRequest(attachment, configuration, note).add()
        case (.check, let attachment?):
            if let namespace = invocation.namespace, access(namespace, F_OK) != 0 {
                throw CNIError(.unknownContainer, "there is no network namespace \(namespace)")
            }
            try AttachmentRequest(attachment, configuration, note).check()
        case (.del, let attachment?):
            let owner = try MappingOwner(attachment, in: configuration.network)
            try removeMappings { $0 == owner }
        case (.gc, _):
            let network = configuration.network
            let valid = try configuration.validAttachments()
            let kept = Set(try valid.map { attachment throws(CNIError) in try MappingOwner(attachment, in: network) })
            try removeMappings { $0.isAttached(to: network) && !kept.contains($0) }
        case (.status, _):
            try status(try configuration.options())
        default: break
        }
        return nil
    }

    private static func versions(_ version: SpecificationVersion) -> JSONValue {
        .object([
            "cniVersion": .string(version.rawValue),
            "supportedVersions": .array(SpecificationVersion.allCases.map { .string($0.rawValue) }),
        ])
    }

    /// Removes mappings of containers that are gone: their connections are over. Where nothing is loaded, nothing is to be done.
    private static func removeMappings(_ isDoomed: (MappingOwner) -> Bool) throws(CNIError) {
        do throws(FastNATError) {
            try LoadedDatapath(for: .change).datapath.removeMappings(where: isDoomed, ending: .cut)
        } catch .notLoaded {
        } catch {
            throw CNIError(error)
        }
    }

    /// Whether an ADD could do what it is for: what is not loaded can be, and what is loaded is attached.
    private static func status(_ options: PluginOptions) throws(CNIError) {
        let attached: [String]
        do throws(FastNATError) {
            attached = try LoadedDatapath(for: .read).uplinks()
        } catch .notLoaded {
            let uplinks = try PluginUplinks.wanted(options)
            do throws(FastNATError) {
                try Loader.refuseImpossible(options.loadRequest(uplinks: uplinks))
            } catch {
                throw CNIError(.unavailable, error.description)
            }
            return
        } catch {
            throw CNIError(error)
        }
        let missing = options.uplinks.filter { !attached.contains($0) }
        guard !attached.isEmpty, missing.isEmpty else {
            throw CNIError(
                .limitedConnectivity,
                "fastnat is attached to \(missing.isEmpty ? "no uplink" : "none of the uplinks " + missing.joined(separator: ", "))"
                    + ": fastnat load --iface UPLINK attaches to one")
        }
    }
}

/// The interfaces towards clients.
enum PluginUplinks {
    /// Those that the configuration names, or those of the default routes.
    static func wanted(_ options: PluginOptions) throws(CNIError) -> [String] {
        guard options.uplinks.isEmpty else { return options.uplinks }
        let found = try translating { () throws(FastNATError) in try Loader.defaultUplinks() }
        guard !found.isEmpty else {
            throw CNIError(
                .unavailable,
                "no default route leads through an Ethernet interface: name the uplinks in the network configuration, "
                    + "as in \"uplinks\": [\"eth0\"]")
        }
        return found
    }
}
