import FastNATTesting
import Testing

/// Sockets of the host beside containers that are masqueraded under its address.
@Suite("The host's sockets and masqueraded ports", .enabled(if: isRoot, "needs root"))
struct HostSocketTests {
    @Test("A socket that chooses a container's port gets another one on the wire", arguments: Variant.fastnat)
    func clash(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try scene.run("masquerade", "add", Topology.containerNetwork(variant.family), "--iface", "eth0")
        let web = try TrafficServer(.http, in: scene.client, port: 80)
        let datagrams = try TrafficServer(.udpReport, in: scene.client, port: 53)
        let outside = scene.topology.client.endpoint(variant.family, web.port)
        let resolver = scene.topology.client.endpoint(variant.family, datagrams.port)
        let container = scene.topology.container.namespace
        let host = scene.topology.hostAddress(variant.family)

        #expect(try Traffic.get(outside, from: container, sourcePort: 45_000) == "\(host) 45000")
        let (address, port) = try split(Traffic.get(outside, from: scene.host, sourcePort: 45_000))
        #expect(address == "\(host)" && port != "45000")

        for _ in 0..<3 {
            #expect(try ask(resolver, from: container) == ["\(host)", "45001", "hello"])
            let answer = try ask(resolver, from: scene.host)
            #expect(answer[0] == "\(host)" && answer[1] != "45001" && answer[2] == "hello")
        }
        try scene.run("masquerade", "rm", Topology.containerNetwork(variant.family))
        try scene.finish()
    }

    @Test("A socket that has a port first keeps it, and the container gets another one", arguments: Variant.fastnat)
    func hostFirst(_ variant: Variant) throws {
        let scene = try Scene(variant)
        try scene.run("masquerade", "add", Topology.containerNetwork(variant.family), "--iface", "eth0")
        let datagrams = try TrafficServer(.udpReport, in: scene.client, port: 53)
        let resolver = scene.topology.client.endpoint(variant.family, datagrams.port)
        let own = try TrafficServer(.udpEcho, in: scene.host, port: 45_001)
        let answer = try ask(resolver, from: scene.topology.container.namespace)
        #expect(answer[1] != "45001" && answer[2] == "hello")
        let reached = try Traffic.exchangeUDP(
            [1], with: scene.published(own.port), from: scene.client, sourcePort: datagrams.port + 1)
        #expect(reached == [1])
        try scene.finish()
    }

    private func ask(_ server: Packet.Endpoint, from namespace: NetworkNamespace) throws -> [String] {
        let answer = try Traffic.exchangeUDP(Array("hello".utf8), with: server, from: namespace, sourcePort: 45_001)
        return String(decoding: answer, as: UTF8.self).split(separator: " ").map(String.init)
    }

    private func split(_ answer: String) throws -> (String, String) {
        let words = answer.split(separator: " ").map(String.init)
        try #require(words.count == 2)
        return (words[0], words[1])
    }
}
