import FastNATTesting
import Foundation
import Testing

@Suite("Connections that the kernel carries", .enabled(if: isRoot, "needs root"))
struct HandoverTests {
    @Test("The host's own services do not notice a load or an unload", arguments: Variant.fastnat)
    func hostService(_ variant: Variant) throws {
        let scene = try Scene(variant, isStarted: false)
        let server = try TrafficServer(.tcpEcho, in: scene.host, port: 22)
        let target = try scene.serve(.tcpEcho, on: 7)
        let pulse = try Pulse(.tcp, to: scene.published(22), from: scene.client)
        let storm = try Storm(to: scene.published(22), from: scene.client, workers: 5)
        for _ in 0..<2 {
            try storm.awaitProgress(30)
            try scene.path.start()
            try scene.publish(7000, to: target.port)
            try storm.awaitProgress(30)
            try pulse.awaitAnswers(5)
            try scene.finish()
        }
        try storm.awaitProgress(30)
        #expect(try storm.stop().failures == [:])
        try pulse.stop()
        server.stop()
    }

    @Test(
        "A connection through iptables goes on while fastnat takes the port over and gives it back",
        arguments: Variant.fastnat)
    func kernelNAT(_ variant: Variant) throws {
        let scene = try Scene(variant, isStarted: false)
        let rules = IptablesPath(scene.topology)
        let server = try scene.serve(.tcpEcho, on: 7)
        try rules.start()
        try rules.publish(7000, to: scene.target(7), .tcp)
        let before = try Pulse(.tcp, to: scene.published(7000), from: scene.client)

        try scene.path.start()
        try scene.publish(7000, to: server.port)
        try before.awaitAnswers(20)
        let during = try Pulse(.tcp, to: scene.published(7000), from: scene.client)
        try during.awaitAnswers(5)
        #expect(try scene.list("conntrack").count == 1)
        try during.stop()

        try scene.finish()
        try before.awaitAnswers(20)
        let after = try Pulse(.tcp, to: scene.published(7000), from: scene.client)
        try after.awaitAnswers(5)
        try after.stop()
        try before.stop()
    }

    @Test("Packets that the host routes to the same port elsewhere are left alone", arguments: Variant.fastnat)
    func transit(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let routed = try scene.serve(.tcpNamed("routed"), on: 7000)
        let published = try scene.serve(.tcpNamed("published"), on: 7)
        let datagrams = try scene.serve(.udpNamed("routed"), on: 7000)
        try scene.publish(7000, to: published.port)
        try scene.publish(7000, to: published.port, .udp)
        for (transport, target) in [(TransportProtocol.tcp, routed), (.udp, datagrams)] {
            let pulse = try Pulse(transport, to: scene.target(target.port), from: scene.client)
            try pulse.awaitAnswers(10)
            #expect(try pulse.stop().allSatisfy { $0.hasPrefix("routed ") })
        }
        let pulse = try Pulse(.tcp, to: scene.published(7000), from: scene.client)
        #expect(try pulse.stop().allSatisfy { $0.hasPrefix("published ") })
        #expect(try scene.packets(notForwardedFor: "not_local") > 0)
        try scene.finish()
    }
}
