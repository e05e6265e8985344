import FastNATTesting
import Testing

@Suite("Publishing", .enabled(if: isRoot, "needs root"))
struct PublishingTests {
    @Test("A published TCP port is reached, with the client's address, until it is unpublished", arguments: Variant.all)
    func tcp(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.http, on: 80)
        #expect(!Traffic.canGet(scene.published(8080), from: scene.client))

        try scene.publish(8080, to: server.port)
        let answer = try Traffic.get(scene.published(8080), from: scene.client, sourcePort: 45_000)
        #expect(answer == "\(scene.topology.client.address(variant.family)) 45000")
        let size = 3_000_000
        #expect(
            try Traffic.get(scene.published(8080), path: "/bytes/\(size)", from: scene.client).utf8.count == size)

        try scene.unpublish(8080, to: server.port)
        #expect(!Traffic.canGet(scene.published(8080), from: scene.client))
        try scene.finish()
    }

    @Test("A published UDP port answers from the published address, until it is unpublished", arguments: Variant.all)
    func udp(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.udpReport, on: 53)
        try scene.publish(5353, to: server.port, .udp)
        let sizes = [0, 1, 1_000, 1_400]
        for size in sizes {
            let payload = [UInt8](repeating: UInt8(ascii: "u"), count: size)
            let answer = try Traffic.exchangeUDP(
                payload, with: scene.published(5353), from: scene.client, sourcePort: UInt16(45_000 + size))
            let text = "\(scene.topology.client.address(variant.family)) \(45_000 + size) "
            #expect(String(decoding: answer, as: UTF8.self) == text + String(repeating: "u", count: size))
        }
        try scene.unpublish(5353, to: server.port, .udp)
        #expect(throws: TestingError.self) {
            try Traffic.exchangeUDP(
                [1], with: scene.published(5353), from: scene.client, timeout: .milliseconds(300))
        }
        try scene.finish()
    }

    @Test(
        "A checksum that a container leaves to a device is right behind one that cannot do it",
        arguments: Variant.of(Publisher.allCases, [.direct]))
    func unfinishedChecksums(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let servers = try [scene.serve(.http, on: 80), scene.serve(.udpEcho, on: 53)]
        try scene.publish(8080, to: servers[0].port)
        try scene.publish(5353, to: servers[1].port, .udp)
        // Then the kernel completes it for the uplink, from what the translation has made of the field.
        try scene.host.command(["ethtool", "-K", "eth0", "tx", "off"])
        let size = 100_000
        #expect(
            try Traffic.get(scene.published(8080), path: "/bytes/\(size)", from: scene.client).utf8.count == size)
        #expect(try Traffic.exchangeUDP([1, 2, 3], with: scene.published(5353), from: scene.client) == [1, 2, 3])
        try scene.finish()
    }

    @Test("Datagrams longer than the MTU arrive, in fragments", arguments: Variant.of(Publisher.allCases, [.direct]))
    func fragments(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.udpEcho, on: 53)
        try scene.publish(5353, to: server.port, .udp)
        let payload = [UInt8](repeating: 7, count: 4_000)
        #expect(try Traffic.exchangeUDP(payload, with: scene.published(5353), from: scene.client) == payload)
        try scene.finish()
    }

    @Test("fastnat takes packets at the hook that was asked for", arguments: Variant.fastnat)
    func hooks(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let programs = try #require(try scene.status()["programs"] as? [[String: Any]])
        let hooks = programs.map { "\($0["interface"] ?? "") \($0["role"] ?? "") \($0["hook"] ?? "")" }
        #expect(hooks.contains("eth0 uplink tcx"))
        #expect(hooks.contains("eth0 uplink xdp") == (variant.publisher == .fastnatXDP))
        try scene.publish(80, to: 80)
        let after = try #require(try scene.status()["programs"] as? [[String: Any]])
        #expect(after.contains { $0["interface"] as? String == scene.topology.containerInterface })
        try scene.finish()
    }
}
