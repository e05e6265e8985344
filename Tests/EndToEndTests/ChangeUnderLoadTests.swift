import FastNATTesting
import Foundation
import Testing

@Suite("Changes under load", .enabled(if: isRoot, "needs root"))
struct ChangeUnderLoadTests {
    /// A scene with two containers on a bridge, or two ports of one container: the first has "old", the second "new".
    private struct Remap {
        let scene: Scene
        let servers: [TrafficServer]
        let transport: TransportProtocol

        init(_ variant: Variant, _ transport: TransportProtocol) throws {
            self.transport = transport
            scene = try Scene(variant)
            let kinds: [TrafficServer.Kind] =
                transport == .tcp ? [.tcpNamed("old"), .tcpNamed("new")] : [.udpNamed("old"), .udpNamed("new")]
            servers = try [scene.serve(kinds[0], on: 71), scene.serve(kinds[1], on: 72)]
            try scene.publish(7000, to: 71, transport)
        }

        func remap() throws {
            try scene.unpublish(7000, to: 71, transport)
            try scene.publish(7000, to: 72, transport)
        }

        func pulse() throws -> Pulse { try Pulse(transport, to: scene.published(7000), from: scene.client) }
    }

    @Test("An established TCP connection outlives its mapping; new ones go to the new target", arguments: Variant.all)
    func remapTCP(_ variant: Variant) throws {
        let remap = try Remap(variant, .tcp)
        // Docker's rules let go of a connection whose ACCEPT rule has gone only in one direction: RELATED,ESTABLISHED stays.
        let established = try remap.pulse()
        try remap.remap()
        try established.awaitAnswers(20)
        let new = try remap.pulse()
        try new.awaitAnswers(5)
        try established.awaitAnswers(20)
        #expect(try established.stop().allSatisfy { $0.hasPrefix("old ") })
        #expect(try new.stop().allSatisfy { $0.hasPrefix("new ") })
        try remap.scene.finish()
    }

    @Test("UDP from one socket follows the new target at once", arguments: Variant.fastnat)
    func remapUDP(_ variant: Variant) throws {
        let remap = try Remap(variant, .udp)
        let pulse = try remap.pulse()
        try pulse.awaitAnswers(10)
        try remap.remap()
        try pulse.awaitAnswer("an answer of the new target", timeout: .seconds(2)) { $0.hasPrefix("new ") }
        let answers = try pulse.stop()
        let firstNew = try #require(answers.firstIndex { $0.hasPrefix("new ") })
        #expect(!answers[firstNew...].contains { $0.hasPrefix("old ") })
        try remap.scene.finish()
    }

    @Test("After unpublishing, an established connection drains and new ones are refused", arguments: Variant.all)
    func unmap(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.tcpEcho, on: 7)
        try scene.publish(7000, to: server.port)
        let established = try Pulse(.tcp, to: scene.published(7000), from: scene.client)
        let storm = try Storm(to: scene.published(7000), from: scene.client, workers: 10)
        try storm.awaitProgress()
        try scene.unpublish(7000, to: server.port)
        try established.awaitAnswers(20)
        #expect(throws: TestingError.self) {
            try Traffic.exchangeTCP([1], with: scene.published(7000), from: scene.client)
        }
        let outcome = try storm.stop()
        let failures = outcome.failures.keys
        #expect(!failures.isEmpty && failures.allSatisfy { $0.contains("ConnectionRefusedError") }, "\(failures)")
        try established.awaitAnswers(5)
        try established.stop()
        try scene.finish()
    }

    @Test("A cut connection breaks at both ends at once, with a reset", arguments: Variant.fastnat)
    func cut(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.tcpNamed("one"), on: 71)
        try scene.publish(7000, to: server.port)
        let pulses = try (0..<4).map { _ in
            try Pulse(.tcp, to: scene.published(7000), from: scene.client, interval: .milliseconds(400))
        }
        let container = scene.topology.containers[0].namespace
        func connections() throws -> Int {
            try container.command(["ss", "-Htn", "state", "connected", "sport", "=", ":71"]).output
                .split(separator: "\n").count
        }
        #expect(try connections() == 4)
        let target = scene.target(71).address
        let untranslated = try Capture("eth0", in: scene.client, .received, filter: "tcp and src host \(target)")
        try scene.run("map", "rm", "7000", "--cut")
        for pulse in pulses {
            let error = try #require(throws: TestingError.self) { try pulse.awaitAnswers(1_000_000) }
            #expect("\(error)".contains("ConnectionResetError"), "\(error)")
        }
        try eventually("the container has forgotten its connections") { try connections() == 0 }
        // Nothing of the container's got out as it was.
        #expect(try untranslated.stop() == [])
        #expect(!Traffic.canGet(scene.published(7000), from: scene.client))
        try scene.finish()
    }

    @Test(
        "A replaced mapping: no connection between the two fails; the old ones drain or break",
        arguments: Variant.fastnat)
    func replace(_ variant: Variant) throws {
        let remap = try Remap(variant, .tcp)
        let echo = try remap.scene.serve(.tcpEcho, on: 7)
        try remap.scene.publish(7007, to: echo.port)
        let established = try remap.pulse()
        let storm = try Storm(to: remap.scene.published(7007), from: remap.scene.client, workers: 8)
        for _ in 0..<10 {
            try remap.scene.run("map", "add", "--replace", "7007", "\(remap.scene.target(echo.port))")
            try remap.scene.run("map", "add", "--replace", "7000", "\(remap.scene.target(72))")
        }
        try storm.awaitProgress(20)
        #expect(try storm.stop().failures == [:])
        let new = try remap.pulse()
        try established.awaitAnswers(5)
        #expect(established.answers.allSatisfy { $0.hasPrefix("old ") })
        #expect(new.answers.allSatisfy { $0.hasPrefix("new ") })
        try remap.scene.run("map", "add", "--replace", "--cut", "7000", "\(remap.scene.target(71))")
        #expect(throws: TestingError.self) { try new.awaitAnswers(1_000_000) }
        try established.awaitAnswers(5)  // its mapping had gone before
        #expect(try remap.pulse().stop().allSatisfy { $0.hasPrefix("old ") })
        try remap.scene.finish()
    }

    @Test("A forged RST and SYN that fit in no window kill nothing", arguments: Variant.fastnat)
    func forgedReset(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.tcpNamed("one"), on: 71)
        try scene.publish(7000, to: server.port)
        let pulse = try Pulse(.tcp, to: scene.published(7000), from: scene.client, sourcePort: 41_000)
        let source = scene.topology.client.endpoint(variant.family, 41_000)
        let link = (try scene.client.linkAddress(of: "eth0"), try scene.host.linkAddress(of: "eth0"))
        for flags in [Packet.TCPFlags.rst, .syn, .rst] {
            let forged = Packet.tcp(from: source, to: scene.published(7000), flags, sequence: 0x1234_5678)
            try Traffic.inject([forged.with { $0.link = link }.bytes], into: "eth0", of: scene.client)
            try pulse.awaitAnswers(10)
            #expect(try scene.list("conntrack").map { $0["state"] as? String } == ["established"])
        }
        try pulse.stop()
        try scene.finish()
    }

    @Test("UDP ends with its mapping", arguments: Variant.fastnat)
    func unmapUDP(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.udpEcho, on: 7)
        try scene.publish(7000, to: server.port, .udp)
        let pulse = try Pulse(.udp, to: scene.published(7000), from: scene.client)
        try scene.unpublish(7000, to: server.port, .udp)
        try pulse.awaitAnswer("an ICMP error of the host", timeout: .seconds(3)) { $0 == "refused" }
        try scene.finish()
    }

    @Test("Loading again under load loses no connection, flow or mapping", arguments: Variant.fastnat)
    func loadAgain(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.tcpEcho, on: 7)
        let datagrams = try scene.serve(.udpEcho, on: 7)
        let bulk = try scene.serve(.bulk, on: 5001)
        try scene.publish(7000, to: server.port)
        try scene.publish(7000, to: datagrams.port, .udp)
        try scene.publish(5001, to: bulk.port)
        let instance = try FastnatInstance(of: scene.host)
        let load = try #require(scene.fastnat).loadArguments

        let pulse = try Pulse(.tcp, to: scene.published(7000), from: scene.client)
        let udp = try Pulse(.udp, to: scene.published(7000), from: scene.client)
        let storm = try Storm(to: scene.published(7000), from: scene.client, workers: 8)
        try Traffic.transfer(megabytes: 5, .upload, with: scene.published(5001), from: scene.client)
        for _ in 0..<5 {
            try storm.awaitProgress(30)
            try scene.fastnat?.run(load)
        }
        try storm.awaitProgress(30)
        try pulse.awaitAnswers(5)
        try pulse.stop()
        let outcome = try storm.stop()
        #expect(outcome.failures == [:])
        #expect(outcome.slowest < 10)
        #expect(try !udp.stop().contains("refused"))
        #expect(try scene.list("map").count == 3)

        // The programs are new ones, on the same maps.
        let after = try FastnatInstance(of: scene.host)
        #expect(after.links == instance.links)
        #expect(after.maps.isSuperset(of: instance.maps.intersection(after.maps)) && after.maps.count >= 13)
        try scene.finish()
        try instance.awaitGone()
    }

    @Test("Changing the mode under load loses no connection", arguments: Topology.Layout.allCases)
    func changeMode(_ layout: Topology.Layout) throws {
        let scene = try Scene(.fastnatTC, Topology.Options(layout))
        let server = try scene.serve(.tcpEcho, on: 7)
        try scene.publish(7000, to: server.port)
        let pulse = try Pulse(.tcp, to: scene.published(7000), from: scene.client)
        let storm = try Storm(to: scene.published(7000), from: scene.client, workers: 8)
        for mode in ["xdp", "tc", "xdp", "auto"] {
            try scene.run("load", "--iface", "eth0", "--mode", mode)
            try storm.awaitProgress(50)
            try pulse.awaitAnswers(5)
        }
        #expect(try storm.stop().failures == [:])
        try pulse.stop()
        try scene.finish()
    }
}
