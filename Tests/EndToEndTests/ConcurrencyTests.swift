import FastNATTesting
import Foundation
import Testing

@Suite("Many clients", .enabled(if: isRoot, "needs root"))
struct ConcurrencyTests {
    @Test("Fifty clients at once, with their own addresses, lose no connection", arguments: Variant.all)
    func fiftyClients(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let server = try scene.serve(.tcpEcho, on: 7)
        try scene.publish(7000, to: server.port)
        let sources: [Packet.Address] = (100..<150).map {
            variant.family == .v4 ? "192.0.2.\($0)" : "2001:db8:1::\($0)"
        }
        let length = variant.family == .v4 ? "24" : "64 nodad"
        try scene.client.ip(sources.map { "address add \($0)/\(length) dev eth0" })
        let storm = try Storm(
            to: scene.published(7000), from: scene.client, workers: 50, connections: 20, sources: sources)
        let outcome = try storm.wait()
        #expect(outcome.failures == [:])
        #expect(outcome.succeeded == 1_000)
        if scene.fastnat != nil {
            let mapping = try #require(try scene.list("map").first)
            #expect(mapping["flows"] as? Int == 1_000)
            let sum = try #require(try scene.list("conntrack") as [[String: Any]]?)
            #expect(sum.count == 1_000)
        }
        try scene.finish()
    }

    @Test("Several clients use several containers at once, over TCP and UDP", arguments: Publisher.allCases)
    func manyEnds(_ publisher: Publisher) throws {
        let options = Topology.Options(.bridge).with {
            $0.clients = 3
            $0.containers = 3
        }
        let scene = try Scene(publisher, options)
        var servers: [TrafficServer] = []
        for index in 0..<3 {
            servers.append(try scene.serve(.tcpNamed("tcp\(index)"), on: 7, container: index))
            servers.append(try scene.serve(.udpNamed("udp\(index)"), on: 7, container: index))
            try scene.publish(UInt16(7000 + index), to: 7, .tcp, container: index)
            try scene.publish(UInt16(7000 + index), to: 7, .udp, container: index)
        }
        var pulses: [(Pulse, String)] = []
        for client in scene.topology.clients {
            for index in 0..<3 {
                for transport in TransportProtocol.allCases {
                    let port = scene.published(UInt16(7000 + index))
                    let pulse = try Pulse(transport, to: port, from: client.namespace)
                    pulses.append((pulse, "\(transport)\(index) "))
                }
            }
        }
        for (pulse, name) in pulses {
            try pulse.awaitAnswers(10)
            let answers = try pulse.stop()
            #expect(answers.allSatisfy { $0.hasPrefix(name) }, "\(name): \(answers)")
        }
        try scene.finish()
    }

    @Test("Two published ports of one target serve one client port at once", arguments: Variant.all)
    func sameClientPort(_ variant: Variant) throws {
        let scene = try Scene(variant)
        for (transport, kind) in [(TransportProtocol.tcp, TrafficServer.Kind.tcpEcho), (.udp, .udpEcho)] {
            let server = try scene.serve(kind, on: 7)
            for port: UInt16 in [7001, 7002] { try scene.publish(port, to: server.port, transport) }
            let pulses = try [7001, 7002].map { (port: UInt16) in
                try Pulse(transport, to: scene.published(port), from: scene.client, sourcePort: 40_000)
            }
            for pulse in pulses { try pulse.awaitAnswers(20) }
            for pulse in pulses {
                let answers = try pulse.stop()
                #expect(answers.enumerated().allSatisfy { "\($0)" == $1 }, "\(transport): \(answers)")
            }
            server.stop()
        }
        try scene.finish()
    }
}
