import Testing

@testable import Bench

@Suite("Topologies of the benchmark") struct StageTests {
    @Test(
        "A route is changed as it is shown, whether its device has a carrier or not",
        arguments: ["", " linkdown", " dead linkdown"]
    )
    func routes(state: String) {
        let route = "172.20.0.0/24 dev br0 proto kernel scope link src 172.20.0.1"
        #expect(Stage.routeChange("\(route)\(state) ") == "route change \(route) congctl cubic")
    }
}
