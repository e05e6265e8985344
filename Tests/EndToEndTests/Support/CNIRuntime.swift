import FastNATTesting
import Foundation
import Testing

/// A container runtime as far as its network goes: it runs the plugins of a network in the host as libcni does, in order with
/// the result of the one before, and backwards to delete.
final class CNIRuntime: Sendable {
    /// The host.
    let host: NetworkNamespace
    /// The network's name.
    let network: String
    /// The version of the specification.
    let version: String
    /// The plugins' configurations, as JSON.
    private let plugins: [Data]
    /// The plugins' state, and the link by which fastnat is a plugin.
    private let directory: URL

    /// A plugin that did not do what it was asked.
    struct Failure: Error, CustomStringConvertible {
        let type: String
        let code: Int
        let message: String
        let text: String
        var description: String { "\(type): \(text)" }
    }

    init(_ host: NetworkNamespace, network: String = "testnet", version: String = "1.0.0", plugins: [[String: Any]])
        throws
    {
        self.host = host
        self.network = network
        self.version = version
        directory = FileManager.default.temporaryDirectory.appending(path: "fastnat-cni-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        try FileManager.default.createSymbolicLink(
            atPath: directory.appending(path: "fastnat-cni").path, withDestinationPath: FastnatPath.defaultBinary)
        self.plugins = try plugins.map { try JSONSerialization.data(withJSONObject: $0) }
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    /// Debian's plugins.
    static let path = "/usr/lib/cni"

    // MARK: - Networks

    /// The interfaces' plugins.
    enum Kind: String, Sendable, CaseIterable {
        case bridge
        case ptp
    }

    /// A network of both families, and fastnat behind the plugin that makes interfaces.
    static func network(
        _ kind: Kind, on host: NetworkNamespace, network: String = "testnet", version: String = "1.0.0",
        options: [String: Any] = [:]
    ) throws -> CNIRuntime {
        var interface: [String: Any] = ["type": kind.rawValue]
        if kind == .bridge { interface.merge(["bridge": "cni0", "isGateway": true]) { $1 } }
        interface["ipam"] = [
            "type": "host-local",
            "ranges": [[["subnet": "10.77.0.0/24"]], [["subnet": "fd00:77::/64"]]],
            "routes": [["dst": "0.0.0.0/0"], ["dst": "::/0"]],
        ]
        let fastnat = ["type": "fastnat-cni", "capabilities": ["portMappings": true]].merging(options) { $1 }
        return try CNIRuntime(host, network: network, version: version, plugins: [interface, fastnat])
    }

    // MARK: - What runtimes do

    /// Adds a container to the network. Returns the results of the plugins, the last one's last.
    ///
    /// - Parameter between: runs before the last plugin.
    @discardableResult
    func add(_ container: Container, between: () throws -> Void = {}) throws -> [NSDictionary] {
        var results: [NSDictionary] = []
        for (index, plugin) in plugins.enumerated() {
            if index == plugins.count - 1 { try between() }
            let result = try run("ADD", plugin, container, ["prevResult": results.last as Any?])
            results.append(try #require(result))
        }
        return results
    }

    /// Asks every plugin whether all is as ADD has left it.
    func check(_ container: Container, _ result: NSDictionary) throws {
        for plugin in plugins {
            let output = try run("CHECK", plugin, container, ["prevResult": result])
            #expect(output == nil)
        }
    }

    /// Takes a container off the network.
    func del(_ container: Container, _ result: NSDictionary? = nil) throws {
        for plugin in plugins.reversed() {
            let output = try run("DEL", plugin, container, ["prevResult": result])
            #expect(output == nil)
        }
    }

    /// Runs one command of the last plugin alone.
    @discardableResult
    func last(_ command: String, _ container: Container? = nil, _ members: [String: Any?] = [:]) throws -> NSDictionary?
    {
        try run(command, try #require(plugins.last), container, members)
    }

    /// A container as runtimes see it.
    struct Container: Sendable {
        let namespace: NetworkNamespace
        let id: String
        /// Such as `8080:80/tcp`.
        var ports: [String] = []
        var interface = "eth0"

        init(_ id: String, _ ports: String...) throws {
            namespace = try NetworkNamespace("container")
            self.id = id
            self.ports = ports
        }

        /// The same container with another port.
        func publishing(_ port: String) -> Container {
            var copy = self
            copy.ports = [port]
            return copy
        }

        /// The capability's value.
        fileprivate var portMappings: [[String: Any]] {
            ports.map { text in
                let parts = text.split(separator: "/")
                let numbers = parts[0].split(separator: ":")
                var mapping: [String: Any] = ["protocol": parts.count > 1 ? String(parts[1]) : "tcp"]
                mapping["hostPort"] = Int(numbers[numbers.count - 2])
                mapping["containerPort"] = Int(numbers[numbers.count - 1])
                if numbers.count > 2 { mapping["hostIP"] = String(numbers[0]) }
                return mapping
            }
        }
    }

    /// Runs a plugin. Returns what it prints.
    private func run(_ command: String, _ plugin: Data, _ container: Container?, _ members: [String: Any?]) throws
        -> NSDictionary?
    {
        var config = try #require(try JSONSerialization.jsonObject(with: plugin) as? [String: Any])
        let type = try #require(config["type"] as? String)
        let capabilities = config.removeValue(forKey: "capabilities") as? [String: Bool] ?? [:]
        config["cniVersion"] = version
        config["name"] = network
        if var ipam = config["ipam"] as? [String: Any] {
            ipam["dataDir"] = directory.path
            config["ipam"] = ipam
        }
        if let container, capabilities["portMappings"] == true {
            config["runtimeConfig"] = ["portMappings": container.portMappings]
        }
        for (key, value) in members { config[key] = value }
        var environment = ["CNI_COMMAND": command, "CNI_PATH": "\(directory.path):\(Self.path)"]
        if let container {
            environment["CNI_CONTAINERID"] = container.id
            environment["CNI_IFNAME"] = container.interface
            environment["CNI_NETNS"] = container.namespace.path
        }
        if type == "fastnat-cni" { try FastnatJanitor.watch(host) }
        let program = type == "fastnat-cni" ? directory.appending(path: type).path : "\(Self.path)/\(type)"
        let result = try host.command(
            [program], input: Array(try JSONSerialization.data(withJSONObject: config)), environment: environment,
            timeout: .seconds(120), check: false)
        let output = try? JSONSerialization.jsonObject(with: Data(result.outputBytes)) as? NSDictionary
        guard result.succeeded else {
            throw Failure(
                type: type, code: output?["code"] as? Int ?? -1, message: output?["msg"] as? String ?? "",
                text: "\(command): \(result)")
        }
        return output
    }
}
