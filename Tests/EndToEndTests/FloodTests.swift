import CDatapath
import FastNATTesting
import Foundation
import Testing

@Suite("Floods", .enabled(if: isRoot, "needs root"), .serialized)
struct FloodTests {
    private static let packets = 2_000_000
    private static let connections = 1_000
    private static let tableSize = 8_192

    /// A block of 256 ports of TCP and of UDP, of which the first of TCP leads to a server, and a table that is too small for
    /// the flood.
    private static func scene(_ publisher: Publisher, _ family: Topology.Family) throws -> Scene {
        let scene = try Scene(
            publisher, Topology.Options(.bridge), family, loadOptions: ["--max-flows", "\(tableSize)"])
        for transport in ["tcp", "udp"] {
            try scene.run("map", "add", "7168-7423/\(transport)", "\(scene.target(7168))")
        }
        // The container answers only those that it knows a way to. Half-open flows then stay so: under a flood, they are what
        // gives way.
        let container = scene.topology.containers[0].namespace
        for (version, clients, via) in [
            ("-4", "192.0.2.0/24", "172.20.0.1"), ("-6", "2001:db8:1::/64", "fd00:20::1"),
        ] {
            try container.command(["ip", version, "route", "add", clients, "via", via])
            try container.command(["ip", version, "route", "del", "default"])
        }
        return scene
    }

    @Test(
        "1,000 connections carry data without loss or reset while 2 million random packets and more hit published ports",
        arguments: [(Publisher.fastnatTC, Topology.Family.v4), (.fastnatXDP, .v6)])
    func connectionsOutliveFlood(_ publisher: Publisher, _ family: Topology.Family) throws {
        let scene = try Self.scene(publisher, family)
        let server = try scene.serve(.tcpEcho, on: 7168)
        let conversations = try Conversations(
            Self.connections, to: scene.published(server.port), from: scene.client)
        let flood = try NewFlowFlood(ofAtLeast: Self.packets, to: scene.published(7168), in: scene.topology)
        var looks = 0
        while try looks < 5 || !flood.isComplete() {
            try conversations.awaitRounds(1)
            try Self.expectWithinLimits(scene)
            looks += 1
        }
        try flood.stop()
        try conversations.awaitRounds(2)
        let established = try scene.list("conntrack").filter { $0["state"] as? String == "established" }
        #expect(established.count == Self.connections)
        try conversations.stop()
        try Self.expectEveryPacketCounted(scene)
        try scene.finish()
    }

    /// No more flows than the table may have, nor half-open ones than their share of it.
    private static func expectWithinLimits(_ scene: Scene) throws {
        let flows = try #require(try scene.status()["flows"] as? [String: Any])
        let (used, halfOpen) = (flows["used"] as? Int ?? .max, flows["halfOpen"] as? Int ?? .max)
        #expect(used <= tableSize && halfOpen <= tableSize / Int(HALF_OPEN_SHARE.rawValue))
    }

    /// What has crossed the uplink was the flood and the connections: each packet counts for a mapping or under a reason, but for
    /// the few with which neighbours find each other.
    private static func expectEveryPacketCounted(_ scene: Scene) throws {
        let output = try scene.host.command(["ip", "-json", "-statistics", "link", "show", "eth0"]).outputBytes
        let link = try #require(try JSONSerialization.jsonObject(with: Data(output)) as? [[String: Any]]).first
        let statistics = try #require(link?["stats64"] as? [String: [String: Int]])
        // What the client's full queue did not take is counted, too: the veth says that it dropped it.
        let crossed = ["rx", "tx"].compactMap { statistics[$0]?["packets"] } + [statistics["tx"]?["dropped"] ?? 0]
        let reasons = try #require(try scene.status()["reasons"] as? [[String: Any]])
        let counted = (reasons + (try scene.list("map"))).reduce(0) { $0 + ($1["packets"] as? Int ?? 0) }
        #expect(crossed.count == 3 && crossed[0] > packets)
        #expect((0..<200).contains(crossed.reduce(0, +) - counted), "\(crossed) crossed, \(counted) counted")
    }
}
