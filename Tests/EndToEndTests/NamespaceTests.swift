import FastNATTesting
import Foundation
import Testing

@Suite("Namespaces", .enabled(if: isRoot, "needs root"))
struct NamespaceTests {
    @Test(
        "Each command may come by `ip netns exec`, which hides /sys/fs/bpf, or by `nsenter --net`",
        arguments: [
            [NetworkNamespace.Entry.ipNetnsExec, .ipNetnsExec, .ipNetnsExec, .ipNetnsExec],
            [.nsenter, .nsenter, .nsenter, .nsenter], [.ipNetnsExec, .nsenter, .ipNetnsExec, .nsenter],
            [.nsenter, .ipNetnsExec, .nsenter, .ipNetnsExec],
        ])
    func entries(_ entries: [NetworkNamespace.Entry]) throws {
        let scene = try Scene(.fastnatXDP, Topology.Options(.direct))
        try scene.finish()
        let server = try scene.serve(.http, on: 80)
        try scene.run("load", "--iface", "eth0", via: entries[0])
        let instance = try FastnatInstance(of: scene.host)
        try scene.run("map", "add", "8080", "\(scene.target(server.port))", via: entries[1])
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        #expect(try scene.list("map", via: entries[2]).count == 1)
        #expect(try scene.list("conntrack", via: entries[2]).count == 1)
        try scene.run("load", "--iface", "eth0", via: entries[3])
        try scene.run("map", "rm", "8080", via: entries[0])
        #expect(!Traffic.canGet(scene.published(8080), from: scene.client))
        try scene.run("unload", via: entries[3])
        try instance.awaitGone()
        try scene.expectNothingAttached()
    }

    @Test("Two instances in two namespaces do not see each other")
    func twoInstances() throws {
        let scenes = try [
            Scene(.fastnatTC, Topology.Options(.direct)), Scene(.fastnatXDP, Topology.Options(.bridge)),
        ]
        let servers = try scenes.enumerated().map { try $1.serve(.tcpNamed("host\($0)"), on: 7) }
        for (index, scene) in scenes.enumerated() { try scene.publish(UInt16(7000 + index), to: servers[index].port) }
        let pulses = try scenes.enumerated().map { index, scene in
            try Pulse(.tcp, to: scene.published(UInt16(7000 + index)), from: scene.client)
        }
        for (index, scene) in scenes.enumerated() {
            let mappings = try scene.list("map")
            #expect(mappings.map { $0["port"] as? Int } == [7000 + index])
            #expect(try scene.list("conntrack").count == 1)
        }
        let instances = try scenes.map { try FastnatInstance(of: $0.host) }
        #expect(instances[0].maps.isDisjoint(with: instances[1].maps))
        #expect(instances[0].programs.isDisjoint(with: instances[1].programs))

        try scenes[0].finish()
        try pulses[1].awaitAnswers(10)
        #expect(try scenes[1].list("map").count == 1)
        #expect(try pulses[1].stop().allSatisfy { $0.hasPrefix("host1 ") })
        try scenes[1].finish()
    }

    @Test(
        "The next load removes what a deleted namespace has left",
        arguments: Publisher.fastnat, [[], ["--attach", "clsact"]])
    func deletedNamespace(_ publisher: Publisher, _ options: [String]) throws {
        let deleted = try Scene(publisher, Topology.Options(.direct), loadOptions: options)
        try deleted.publish(80, to: 80)
        let instance = try FastnatInstance(of: deleted.host)
        deleted.topology.close()
        let other = try Scene(.fastnatTC, Topology.Options(.direct))
        // The kernel takes a namespace's devices away some time after its last user has gone.
        try eventually("the deleted namespace's leftovers go with a load elsewhere", timeout: .seconds(10)) {
            try other.path.start()
            return try instance.leftovers().isEmpty
        }
        try other.finish()
    }

    @Test("A load elsewhere leaves a namespace alone that has lost its interfaces")
    func interfacesGone() throws {
        let scenes = try [
            Scene(.fastnatTC, Topology.Options(.direct)), Scene(.fastnatTC, Topology.Options(.direct)),
        ]
        try scenes[0].publish(80, to: 80)
        try scenes[0].host.ip(["link del eth0", "link del veth0"])
        try scenes[1].path.start()
        #expect(try scenes[0].list("map").count == 1)
        for scene in scenes { try scene.run("unload") }
    }

    @Test("Nothing of fastnat runs between commands")
    func noDaemon() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.direct))
        try scene.publish(80, to: 80)
        let list = "ip netns pids \(scene.host.name) | xargs -r ps -o comm= -p"
        #expect(try !scene.host.command(["sh", "-c", list]).output.contains("fastnat"))
        try scene.finish()
    }
}
