import FastNATTesting
import Foundation
import Testing

@Suite("CNI: the DaemonSet") struct DaemonSetTests {
    @Test("Its script puts fastnat in the place of portmap, once, and leaves networks without portmap alone")
    func install() throws {
        let node = try Node()
        let flannel = try node.network("10-flannel", plugins: ["flannel", "portmap", "bandwidth"])
        let cilium = try node.network("05-cilium", plugins: ["cilium-cni"])
        let other = try Data(contentsOf: cilium)
        #expect(try node.install() == "fastnat is in \(flannel.path)")
        #expect(try Node.plugins(flannel) == ["flannel", "fastnat-cni", "bandwidth"])
        #expect(try Data(contentsOf: cilium) == other)
        #expect(try node.content("bin/fastnat-cni") == "the binary")
        #expect(try node.install() == "")

        // The network's installer has written its part again, and the administrator has changed fastnat's.
        try node.network("10-flannel", plugins: ["flannel", "portmap", "fastnat-cni"])
        try node.write(#"{"type": "fastnat-cni", "uplinks": ["eth1"]}"#, to: "fastnat/plugin.json")
        #expect(try node.install() == "fastnat is in \(flannel.path)")
        #expect(try Node.plugins(flannel) == ["flannel", "fastnat-cni"])
        #expect(try node.content("net.d/10-flannel.conflist").contains("eth1"))

        try node.write("no JSON", to: "net.d/99-broken.conflist")
        #expect(try node.install() == "")
    }
}

/// The directories that the DaemonSet's container has of its node.
private final class Node {
    private let directory = FileManager.default.temporaryDirectory.appending(path: "fastnat-node-\(UUID().uuidString)")
    private let script: String

    init() throws {
        let root = directory.path
        for name in ["bin", "net.d", "fastnat", "tmp"] {
            try FileManager.default.createDirectory(
                at: directory.appending(path: name), withIntermediateDirectories: true)
        }
        let file = URL(filePath: #filePath).appending(path: "../../../../packaging/kubernetes/fastnat.yaml")
            .standardized
        let manifest = try String(contentsOf: file, encoding: .utf8)
        script = try [
            ("/tmp/", "\(root)/tmp/"), ("/host/", "\(root)/"), ("/etc/fastnat/", "\(root)/fastnat/"),
            ("/usr/local/bin/fastnat", "\(root)/fastnat/binary"), ("sleep 60", "exit"),
        ].reduce(Self.literal("install.sh", in: manifest)) { $0.replacing($1.0, with: $1.1) }
        try write(Self.literal("plugin.json", in: manifest), to: "fastnat/plugin.json")
        try write("the binary", to: "fastnat/binary")
    }

    /// A text of several lines, `KEY: |` in YAML, that is indented by four.
    private static func literal(_ key: String, in manifest: String) throws -> String {
        let lines = manifest.split(separator: "\n", omittingEmptySubsequences: false)
        let start = try #require(lines.firstIndex(of: "  \(key): |"))
        return lines[(start + 1)...].prefix { $0.hasPrefix("    ") }.map { $0.dropFirst(4) + "\n" }.joined()
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    /// Runs the script until it would wait. Returns what it prints.
    func install() throws -> String {
        let result = try ChildProcess(["sh", "-c", script]).wait()
        try result.check()
        return result.output
    }

    @discardableResult
    func network(_ name: String, plugins: [String]) throws -> URL {
        let list: [String: Any] = ["cniVersion": "0.3.1", "name": name, "plugins": plugins.map { ["type": $0] }]
        let file = directory.appending(path: "net.d/\(name).conflist")
        try JSONSerialization.data(withJSONObject: list).write(to: file)
        return file
    }

    static func plugins(_ file: URL) throws -> [String?] {
        let list = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any]
        return try #require(list?["plugins"] as? [[String: Any]]).map { $0["type"] as? String }
    }

    func write(_ text: String, to path: String) throws {
        try Data(text.utf8).write(to: directory.appending(path: path))
    }

    func content(_ path: String) throws -> String {
        try String(contentsOf: directory.appending(path: path), encoding: .utf8)
    }
}
