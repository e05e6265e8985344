import FastNATTesting
import Glibc
import Testing

@testable import Bench

private let isRoot = geteuid() == 0

@Suite("Topologies of the benchmark") struct StageTests {
    @Test(
        "A route is changed as it is shown, whether its device has a carrier or not",
        arguments: ["", " linkdown", " dead linkdown"]
    )
    func routes(state: String) {
        let route = "172.20.0.0/24 dev br0 proto kernel scope link src 172.20.0.1"
        #expect(Stage.routeChange("\(route)\(state) ") == "route change \(route) congctl cubic")
    }

    private static func service(_ port: UInt16) -> Stage.Service {
        Stage.Service(port: port, containerPort: port, transport: .udp)
    }

    private static func plan(_ port: UInt16, takesFrames: Bool = true) -> Stage.Plan {
        Stage.Plan(layout: .direct, services: [service(port)], takesFrames: takesFrames)
    }

    private func verify(_ stage: Stage, _ port: UInt16) throws {
        try PacketStream(stage, PacketStream.Shape(service: Self.service(port))).verify()
    }

    @Test("A stage of fastnat is had again with other ports alone", .enabled(if: isRoot, "needs root"))
    func again() throws {
        let plans = [Self.plan(1_000), Self.plan(2_000)]
        let store = try StageStore(
            binary: FastnatPath.defaultBinary, for: plans.map { (.fastnatTC, $0) })
        defer { store.close() }
        let stage = try store.stages([.fastnatTC], plans[0])[0].get()
        try verify(stage, 1_000)
        store.giveBack(stage)
        let next = try store.stages([.fastnatTC], plans[1])[0].get()
        #expect(next === stage)
        try verify(next, 2_000)
        #expect(throws: BenchError.self) { try verify(next, 1_000) }
        // Nobody will ask any more: it is taken away.
        store.giveBack(next)
        #expect(throws: BenchError.self) { try verify(next, 2_000) }
    }

    @Test(
        "A stage is not had again where something was wrong with it, or sockets were at its ends",
        .enabled(if: isRoot, "needs root"))
    func notAgain() throws {
        let sockets = Self.plan(1_000, takesFrames: false)
        let requests: [(PathKind, Stage.Plan)] = [(.fastnatXDP, Self.plan(1_000)), (.fastnatXDP, sockets)]
        let store = try StageStore(binary: FastnatPath.defaultBinary, for: requests + requests)
        defer { store.close() }
        for (kind, plan) in requests {
            let stage = try store.stages([kind], plan)[0].get()
            stage.isSound = !plan.takesFrames
            store.giveBack(stage)
            let other = try store.stages([kind], plan)[0].get()
            #expect(other !== stage)
            store.giveBack(other)
        }
    }
}
