import FastNATTesting
import Foundation
import Testing

extension DockerTests {
    /// FASTNAT_DOCKER=full: as many containers as the goal says, and figures, which `make test` takes of the release binary.
    private static let isFull = ProcessInfo.processInfo.environment["FASTNAT_DOCKER"] == "full"

    @Test("Containers that start and stop at random are published as long as they run, and no longer")
    func random() throws {
        let scene = try DockerScene(.withoutRules)
        let follower = try scene.follow()
        var containers = (0..<(Self.isFull ? 50 : 8)).map { RandomContainer(number: $0) }
        for _ in 0..<(containers.count * 3) {
            let index = containers.indices.randomElement() ?? 0
            try containers[index].step(scene.daemon)
            try scene.awaitAnswer(containers[index].port, containers[index].expectedAnswer)
        }
        for container in containers {
            #expect(scene.answer(container.port, timeout: .seconds(1)) == container.expectedAnswer, "\(container)")
        }
        let running = containers.filter { $0.state == .running }.map { "\($0.port)-\($0.port)/tcp" }
        func published() -> [String] {
            ((try? scene.mappings()) ?? []).compactMap { $0.split(separator: " ").first.map(String.init) }
        }
        try awaitCondition("\(published()) to be \(running); \(follower.errors)", timeout: .seconds(20)) {
            published() == running
        }
        follower.signal(SIGINT)
        #expect(try follower.wait().status == 0)
        try scene.finish()
    }

    @Test("1,000 ports are one mapping, published in less than 50 ms")
    func manyPorts() throws {
        let scene = try DockerScene(.withoutRules)
        let ports: [UInt16] = [20_000, 20_500, 20_999]
        try scene.daemon.run("many", ["--publish", "20000-20999:20000-20999"], ports: ports, timeout: .seconds(300))
        let times = try (0..<5).map { _ in
            try scene.fastnat.run(["map", "flush"])
            return try ContinuousClock().measure { try scene.synchronize(["--once"]) }
        }
        #expect(try scene.mappings() == ["20000-20999/tcp \(try scene.daemon.address(of: "many"))"])
        for port in ports { #expect(scene.answer(port) == "many") }
        try scene.finish()
        guard Self.isFull, let best = times.min() else { return }
        print("1,000 ports: fastnat docker --once takes \(best)")
        #expect(best < .milliseconds(50), "of \(FastnatPath.defaultBinary)")
        for mode in DockerDaemon.Mode.allCases {
            let daemon = try DockerDaemon(in: try NetworkNamespace("docker"), mode)
            let time = try ContinuousClock().measure {
                try daemon.run("many", ["--publish", "20000-20999:20000-20999"], ports: ports, timeout: .seconds(600))
            }
            let one = try ContinuousClock().measure { try daemon.run("one", ["--publish", "80:80"]) }
            print("1,000 ports: docker run, \(mode.rawValue), takes \(time), and \(one) with one port")
            daemon.stop()
        }
    }

    @Test("It takes little memory, and no processor time while nothing happens")
    func idle() throws {
        let scene = try DockerScene(.withoutRules)
        let follower = try scene.follow()
        try scene.daemon.run("web", ["--publish", "8080:80"])
        try scene.awaitAnswer(8080, "web")
        let process = follower.identifier  // nsenter has become fastnat
        let (before, start) = (try ProcessUse(process), ContinuousClock.now)
        try awaitCondition("time to pass", timeout: .seconds(300)) { [isFull = Self.isFull] in
            ContinuousClock.now - start > (isFull ? .seconds(130) : .seconds(5))
        }
        let after = try ProcessUse(process)
        let share = Double(after.ticks - before.ticks) / 100 / ((ContinuousClock.now - start) / .seconds(1))
        // A debug build takes more.
        #expect(share < (Self.isFull ? 0.001 : 0.01))
        #expect(after.resident < (Self.isFull ? 30 : 60) << 20)
        if Self.isFull { print("idle: \(share * 100) % of a CPU, \(after.resident >> 10) KiB resident") }
        follower.signal(SIGTERM)
        #expect(try follower.wait().status == 0)
        try scene.finish()
    }
}

/// A container that is started and stopped at random.
private struct RandomContainer: CustomStringConvertible {
    enum State {
        case none
        case stopped
        case running
    }

    let number: Int
    private(set) var state = State.none

    init(number: Int) { self.number = number }

    var name: String { "random\(number)" }
    var port: UInt16 { UInt16(10_000 + number) }
    var expectedAnswer: String? { state == .running ? name : nil }
    var description: String { "\(name) \(state)" }

    /// Does something that is possible now.
    mutating func step(_ daemon: DockerDaemon) throws {
        switch (state, Int.random(in: 0..<3)) {
        case (.none, _):
            try daemon.run(name, ["--publish", "\(port):80"])
            state = .running
        case (.running, 0):
            try daemon.docker("restart", "--time", "0", name)
        case (.running, _):
            try daemon.docker("stop", "--time", "0", name)
            state = .stopped
        case (.stopped, 0):
            try daemon.remove(name)
            state = .none
        case (.stopped, _):
            try daemon.docker("start", name)
            state = .running
        }
    }
}

/// What a process uses.
private struct ProcessUse {
    /// Processor time, in hundredths of a second.
    let ticks: Int
    /// Bytes in memory.
    let resident: Int

    init(_ process: Int32) throws {
        let text = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
        let words = try #require(text.split(separator: ") ").last).split(separator: " ")
        ticks = try #require(Int(words[11])) + #require(Int(words[12]))
        resident = try #require(Int(words[21])) * Int(getpagesize())
    }
}
