import FastNATTesting
import Foundation
import Testing

@Suite("Unloading", .enabled(if: isRoot, "needs root"))
struct UnloadTests {
    private static let rounds = 12

    @Test("Nothing is left after an unload under load, and connections end", arguments: Variant.fastnat)
    func underLoad(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.tcpEcho, on: 7)
        try scene.publish(7000, to: server.port)
        let storm = try Storm(to: scene.published(7000), from: scene.client, workers: 5)
        try storm.awaitProgress(50)
        try scene.finish()
        storm.abandon()
        #expect(!Traffic.canGet(scene.published(7000), from: scene.client))
    }

    @Test("Unloading one uplink leaves the other one working")
    func oneUplink() throws {
        let scene = try Scene(.fastnatXDP, Topology.Options(.bridge).with { $0.hasSecondUplink = true })
        let second = try #require(scene.topology.secondClient)
        let server = try scene.serve(.http, on: 80)
        try scene.publish(8080, to: server.port)
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        #expect(Traffic.canGet("198.51.100.1:8080", from: second.namespace))
        try scene.run("unload", "--iface", "eth1")
        #expect(!Traffic.canGet("198.51.100.1:8080", from: second.namespace))
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        #expect(try !scene.host.command(["ip", "-d", "link", "show", "eth1"]).output.contains("xdp"))
        try scene.finish()
    }

    @Test("By clsact: ports are published, and unload removes the queueing discipline", arguments: Variant.fastnat)
    func clsact(_ variant: Variant) throws {
        let scene = try Scene(
            variant.publisher, Topology.Options(variant.layout), variant.family, loadOptions: ["--attach", "clsact"])
        let server = try scene.serve(.http, on: 80)
        try scene.publish(8080, to: server.port)
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        for interface in ["eth0", scene.topology.containerInterface] {
            let filters = try scene.host.command(["tc", "filter", "show", "dev", interface, "ingress"]).output
            #expect(filters.contains("fastnat_"), "\(interface): \(filters)")
        }
        try scene.path.start()
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        let instance = try FastnatInstance(of: scene.host)
        try scene.run("unload")
        try instance.awaitGone()
        try scene.expectNothingAttached()
    }

    @Test(
        "By clsact: somebody else's queueing discipline or filter stays and goes on counting", arguments: [true, false])
    func foreignClsact(_ isForeignFirst: Bool) throws {
        let scene = try Scene(
            .fastnatTC, Topology.Options(.direct), loadOptions: ["--attach", "clsact"], isStarted: false)
        let tc = { (arguments: String) in
            try scene.host.command(["tc"] + arguments.split(separator: " ").map(String.init)).output
        }
        let filter =
            "filter add dev eth0 ingress protocol all prio 99 u32 match u32 0 0 action mirred egress mirror dev mirror0"
        let mirror = try NetworkNamespace("mirror")
        try scene.host.connect("mirror0", to: mirror, "eth0")
        if isForeignFirst { _ = try tc("qdisc add dev eth0 clsact") }
        try scene.path.start()
        if !isForeignFirst { _ = try tc(filter) }
        let server = try scene.serve(.http, on: 80)
        try scene.publish(8080, to: server.port)
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        try Traffic.ping(scene.published(0).address, from: scene.client, count: 3)
        if !isForeignFirst {
            let counted = try tc("-s filter show dev eth0 ingress prio 99")
            let packets = counted.split(separator: " ").firstIndex(of: "pkt").map {
                counted.split(separator: " ")[$0 - 1]
            }
            #expect((3...20).contains(Int(packets ?? "") ?? -1), "\(counted)")
        }
        let instance = try FastnatInstance(of: scene.host)
        try scene.run("unload")
        try instance.awaitGone()
        #expect(try tc("qdisc show dev eth0").contains("clsact"))
        let left = try tc("filter show dev eth0 ingress")
        #expect(left.contains("mirred") == !isForeignFirst && !left.contains("fastnat"), "\(left)")
    }

    @Test("After the uplink has been deleted, unload removes the rest")
    func uplinkDeleted() throws {
        let scene = try Scene(.fastnatXDP, Topology.Options(.bridge))
        try scene.publish(80, to: 80)
        try scene.host.ip(["link del eth0"])
        let programs = try #require(try scene.status()["programs"] as? [[String: Any]])
        #expect(programs.contains { $0["attached"] as? Bool == false })
        try scene.finish()
    }

    @Test("What another version has loaded is refused by that name, and unload takes it away")
    func otherVersion() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        let maps = "/run/fastnat/bpf/\(try scene.host.cookie)/maps"
        let key = ["0", "0", "0", "0"]
        let found = try bpftool(["map", "lookup", "pinned", "\(maps)/settings", "key"] + key)
        var settings = try #require(found.first?["value"] as? [String])
        settings[40] = "0x07"  // abi_version, which stands there in all versions
        _ = try scene.host.command(
            ["bpftool", "map", "update", "pinned", "\(maps)/settings", "key"] + key + ["value"] + settings)
        try FileManager.default.removeItem(atPath: "\(maps)/variables")  // that version had no such map
        let commands = [
            "load --iface eth0", "map list", "map add 80 \(scene.target(80))", "status", "unload --iface eth0",
        ]
        for command in commands {
            let result = try fastnat.run(command.split(separator: " ").map(String.init), check: false)
            #expect(result.status == 69, "\(command): \(result)")
            #expect(result.errors.contains("layout version 7"), "\(command): \(result)")
        }
        let instance = try FastnatInstance(of: scene.host)
        try scene.run("unload")
        try instance.awaitGone()
        try scene.expectNothingAttached()
        try scene.path.start()
        try scene.finish()
    }

    @Test("A loader killed at any moment leaves what load, list and unload cope with", arguments: [false, true])
    func killedLoad(_ isAfterLoad: Bool) throws {
        let scene = try Scene(.fastnatXDP, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        let took = try ContinuousClock().measure { try scene.run("load", "--iface", "eth0", "--mode", "xdp") }
        var seen: [FastnatInstance] = []
        for round in 0..<Self.rounds {
            if !isAfterLoad { try fastnat.run(["unload"], check: false) }
            let loader = try fastnat.spawn(fastnat.loadArguments)
            usleep(UInt32(Double(took.components.attoseconds) / 1e12 * Double(round + 1) / Double(Self.rounds)))
            loader.signal(SIGKILL)
            _ = try loader.wait()
            seen.append(try FastnatInstance(of: scene.host))
            if round % 3 == 0 {
                try scene.path.start()
                #expect(try scene.list("map").isEmpty)
            }
        }
        try scene.path.start()
        let server = try scene.serve(.http, on: 80)
        try scene.publish(8080, to: server.port)
        #expect(Traffic.canGet(scene.published(8080), from: scene.client))
        try scene.finish()
        for instance in seen { try instance.awaitGone() }
    }

    @Test("`map add` killed at any moment leaves whole mappings, which can be listed, flushed and added")
    func killedAdd() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let fastnat = try #require(scene.fastnat)
        let text = (1...4000).map { "\($0 + 10000) \(scene.target(80))" }.joined(separator: "\n")
        let took = try ContinuousClock().measure { try scene.run("map", "add", "--file", "-", input: text) }
        for round in 0..<Self.rounds {
            try scene.run("map", "flush")
            let adder = try fastnat.spawn(["map", "add", "--file", "-"], input: text)
            usleep(UInt32(Double(took.components.attoseconds) / 1e12 * Double(round + 1) / Double(Self.rounds)))
            adder.signal(SIGKILL)
            _ = try adder.wait()
            let mappings = try scene.list("map")
            #expect(mappings.count <= 4000)
            #expect(mappings.allSatisfy { $0["target"] as? String == scene.target(80).address.description })
        }
        try scene.run("map", "flush")
        #expect(try scene.list("map").isEmpty)
        try scene.run("map", "add", "--file", "-", input: text)
        #expect(try scene.list("map").count == 4000)
        let server = try scene.serve(.http, on: 80)
        _ = server
        #expect(Traffic.canGet(scene.published(10_001), from: scene.client))
        try scene.finish()
    }
}
