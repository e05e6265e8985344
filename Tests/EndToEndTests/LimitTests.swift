import FastNATTesting
import Foundation
import Testing

/// Limits on flows. The kernel has the same as xt_connlimit and xt_hashlimit.
@Suite("Limits", .enabled(if: isRoot, "needs root"))
struct LimitTests {
    @Test("Limits are listed, saved, applied, replaced and taken away")
    func commands() throws {
        let scene = try Scene(.fastnatTC, Topology.Options(.bridge))
        let target = "\(scene.target(80))"
        try scene.run("map", "add", "80", target)
        #expect(!(try scene.run("map", "list").output.contains("LIMITS")))
        try scene.run("map", "add", "81", target, "--limit-flows", "100", "--limit-rate-per-source", "30/m")
        try scene.run("map", "add", "--file", "-", input: "82 \(target) limit-rate=10 limit-flows-per-source=7")
        let listed = try scene.run("map", "list").output
        #expect(listed.contains("LIMITS"))
        #expect(
            listed.contains(" flows=100,rate-per-source=30/m ") && listed.contains(" rate=10/s,flows-per-source=7 "))
        let saved = try scene.run("save").output
        #expect(saved.contains("limit-flows: 100") && saved.contains("limit-rate-per-source: 30/m"))
        try scene.run("map", "flush")
        try scene.run("apply", "-f", "-", input: saved)
        #expect(try scene.run("save").output == saved)
        #expect(try scene.run("apply", "-f", "-", "--dry-run", input: saved).output == "")
        try scene.run("map", "add", "81", target, "--replace", "--limit-flows", "5", "--owner", "file")
        #expect(try scene.list("map")[1]["limitFlows"] as? Int == 5)
        #expect(try scene.list("map")[1]["limitRatePerSource"] is NSNull)
        let result = try #require(scene.fastnat).run(["map", "add", "83", target, "--limit-rate", "9/h"], check: false)
        #expect(result.status == 64 && result.errors.contains("limit-rate \"9/h\": write a number of new flows"))
        try scene.finish()
    }

    /// Two clients in different networks, and a published port.
    private static func scene(_ variant: Variant, _ transport: TransportProtocol, _ limit: Limit) throws -> Scene {
        let scene = try Scene(variant) { $0.hasSecondUplink = true }
        let target = scene.target(7)
        if scene.fastnat != nil {
            try scene.run("map", "add", "7000/\(transport.rawValue)", "\(target)", limit.option, limit.value)
        } else {
            try scene.publish(7_000, to: 7, transport)
            let rule = ["-I", "FORWARD", "-o", scene.topology.containerInterface, "-p", transport.rawValue]
            let program = scene.family == .v4 ? "iptables-nft" : "ip6tables-nft"
            try scene.host.command([program] + rule + limit.match(scene.family) + ["-j", "DROP"])
        }
        return scene
    }

    private enum Limit {
        case flows, rate

        var option: String { self == .flows ? "--limit-flows-per-source" : "--limit-rate-per-source" }
        var value: String { self == .flows ? "5" : "50/s" }

        func match(_ family: Topology.Family) -> [String] {
            switch self {
            case .flows:
                ["--syn", "-m", "connlimit", "--connlimit-above", "5", "--connlimit-mask", family == .v4 ? "32" : "64"]
            case .rate:
                ["-m", "conntrack", "--ctstate", "NEW", "-m", "hashlimit", "--hashlimit-above", "50/sec"]
                    + ["--hashlimit-mode", "srcip", "--hashlimit-name", "new", "--hashlimit-burst", "50"]
            }
        }
    }

    private static let variants = Variant.of(Publisher.allCases, [.bridge])

    @Test("A source at its limit leaves others untouched, and goes on after a close", arguments: variants)
    func flowsOfASource(_ variant: Variant) throws {
        let scene = try Self.scene(variant, .tcp, .flows)
        let server = try scene.serve(.tcpEcho, on: 7)
        let other = try #require(scene.topology.secondClient?.namespace)
        let published = scene.published(7_000)
        let held = try Conversations(5, to: published, from: scene.client)
        #expect(throws: TestingError.self) { try Traffic.exchangeTCP([1], with: published, from: scene.client) }
        let others = try Conversations(5, to: published, from: other)
        try others.awaitRounds(2)
        try held.awaitRounds(2)
        #expect(throws: TestingError.self) { try Traffic.exchangeTCP([1], with: published, from: other) }
        try others.stop()
        try held.stop()
        #expect(try Traffic.exchangeTCP([1, 2], with: published, from: scene.client) == [1, 2])
        if scene.fastnat != nil {
            #expect(try scene.packets(notForwardedFor: "source_flow_limit") > 0)
            #expect(try scene.list("map").first?["limitFlowsPerSource"] as? Int == 5)
        }
        #expect(server.port == 7)
        try scene.finish()
    }

    @Test("A source that floods a port with new flows takes none from others", arguments: variants)
    func rateOfASource(_ variant: Variant) throws {
        let scene = try Self.scene(variant, .udp, .rate)
        let server = try scene.serve(.udpEcho, on: 7)
        let other = try #require(scene.topology.secondClient?.namespace)
        let published = scene.published(7_000)
        let link = (try scene.client.linkAddress(of: "eth0"), try scene.host.linkAddress(of: "eth0"))
        let frames = (0..<10_000 as Range<UInt16>).map { number in
            Packet.udp(from: scene.topology.client.endpoint(scene.family, 10_000 + number), to: published, payload: [1])
                .with { $0.link = link }.bytes
        }
        let flood = try Flood(frames, framesPerSecond: 5_000, into: "eth0", of: scene.client)
        for number in 0..<20 as Range<UInt8> {
            #expect(try Traffic.exchangeUDP([number], with: published, from: other) == [number])
        }
        let sent = try flood.stop()
        if scene.fastnat != nil {
            let refused = try scene.packets(notForwardedFor: "source_rate_limit")
            let taken = try #require(try scene.list("map").first?["flows"] as? Int)
            #expect(refused > 0 && refused + taken <= sent + 20 && taken < 20 + 50 + refused / 10)
        }
        #expect(server.port == 7)
        try scene.finish()
    }
}
