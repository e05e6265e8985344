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
