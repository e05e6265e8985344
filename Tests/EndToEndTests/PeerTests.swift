import FastNATTesting
import Testing

/// At TC, packets to a container are given to its end of the veth where nobody on the host's end would miss them.
@Suite("Past the queue of a container's interface", .enabled(if: isRoot, "needs root"))
struct PeerTests {
    private static let variants = Variant.of([.fastnatTC])

    /// What somebody may have put on the way.
    enum Watcher: CaseIterable {
        case queueingDiscipline, clsactFilter, tcxProgram, xdpInContainer

        /// Puts it there. What is returned goes with it.
        fileprivate func add(to scene: Scene) throws -> PacketCounter? {
            let interface = scene.topology.containerPort()
            func tc(_ arguments: String) throws {
                try scene.host.command(["tc"] + arguments.split(separator: " ").map(String.init))
            }
            switch self {
            case .queueingDiscipline: try tc("qdisc replace dev \(interface) root pfifo limit 1000")
            case .clsactFilter:
                try tc("qdisc add dev \(interface) clsact")
                try tc("filter add dev \(interface) egress protocol all prio 99 u32 match u32 0 0 flowid :1")
            case .tcxProgram: return try PacketCounter(on: interface, of: scene.host, at: .egress)
            case .xdpInContainer:
                return try PacketCounter(on: "eth0", of: scene.topology.container.namespace, at: .xdp)
            }
            return nil
        }
    }

    /// Answers by UDP that go on.
    private struct Watch {
        let scene: Scene
        let server: TrafficServer
        let pulse: Pulse

        init(_ scene: Scene) throws {
            self.scene = scene
            server = try scene.serve(.udpEcho, on: 7)
            try scene.publish(7000, to: 7, .udp)
            pulse = try Pulse(.udp, to: scene.published(7000), from: scene.client)
            try pulse.awaitAnswers(10)
        }

        /// Packets that the host has put into the queue so far.
        private func queued() throws -> Int {
            try scene.packets("tx", on: scene.topology.containerPort())
        }

        /// How many of the packets that 100 answers take go through the queue.
        func share() throws -> Int {
            let before = try queued()
            try pulse.awaitAnswers(100)
            #expect(!pulse.answers.suffix(100).contains { $0 == "lost" || $0 == "refused" })
            return try queued() - before
        }

        func awaitPassed() throws {
            try eventually("packets pass the queue by", timeout: .seconds(10)) { try share() < 30 }
        }

        func awaitQueued() throws {
            try eventually("packets go through the queue", timeout: .seconds(10)) { try share() >= 100 }
        }
    }

    @Test("Packets pass the queue by, until somebody's is there and the next command has seen it", arguments: variants)
    func passed(_ variant: Variant) throws {
        let scene = try Scene(variant)
        let watch = try Watch(scene)
        try watch.awaitPassed()
        _ = try Watcher.queueingDiscipline.add(to: scene)
        try scene.publish(7001, to: 7, .udp)
        try watch.awaitQueued()
        try scene.host.command(["tc", "qdisc", "del", "dev", scene.topology.containerPort(), "root"])
        try scene.run("load", "--iface", "eth0", "--mode", "tc")
        try watch.awaitPassed()
        try scene.finish()
    }

    @Test("What looks at packets on their way, or holds them, gets each", arguments: Watcher.allCases, variants)
    func watched(_ watcher: Watcher, _ variant: Variant) throws {
        let scene = try Scene(variant)
        let counter = try watcher.add(to: scene)
        let watch = try Watch(scene)
        try watch.awaitQueued()
        if let counter { #expect(try counter.stop() >= 100) }
        if watcher == .clsactFilter {
            try scene.host.command(["tc", "qdisc", "del", "dev", scene.topology.containerPort(), "clsact"])
        }
        try scene.finish()
    }
}
