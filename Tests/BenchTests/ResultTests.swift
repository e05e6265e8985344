import Foundation
import Testing

@testable import Bench

@Suite("Results of the benchmark") struct ResultTests {
    @Test("The median and the distance of the quartiles")
    func statistics() throws {
        let odd = try #require(Statistics([5, 1, 3, 2, 4]))
        #expect(odd.median == 3)
        #expect(abs(odd.spread - 2.0 / 3) < 1e-12)
        let even = try #require(Statistics([1, 2, 3, 10]))
        #expect(even.median == 2.5)
        #expect(try #require(Statistics([7])).spread == 0)
        #expect(Statistics([]) == nil)
    }

    @Test("The more turns, the less a median may be off")
    func margin() throws {
        let few = try #require(Statistics([0.8, 0.9, 1, 1.1, 1.2]))
        let many = try #require(Statistics([[Double]](repeating: [0.8, 0.9, 1, 1.1, 1.2], count: 16).flatMap(\.self)))
        #expect(abs(few.margin - 0.2 * 1.81 / 5.0.squareRoot()) < 0.001 && few.isNoisy)
        #expect(abs(many.margin * 4 - few.margin) < 0.001 && !many.isNoisy)
    }

    @Test("Noise begins above 10 %", arguments: [(0.06, false), (0.14, true)])
    func noise(distance: Double, isNoisy: Bool) throws {
        // Quartiles of three values lie half-way between them.
        #expect(Cell(path: "p", samples: [1 - distance, 1, 1 + distance]).isNoisy == isNoisy)
    }

    @Test("Ratios say how many times better, whichever way that is")
    func ratios() throws {
        let report = Report.sample()
        #expect(report.workloads[0].series[0].ratio("fastnat-xdp") == 4)
        #expect(report.workloads[1].series[0].ratio("fastnat-xdp") == 1.25)
        #expect(report.workloads[0].series[0].ratio("docker-proxy") == nil)
        #expect(report.workloads[0].series[0].ratio("routing") == nil)
    }

    @Test("Ratios are those of each turn: a machine that is slow for a while is slow for all")
    func turns() throws {
        func series(_ samples: [Double]) -> Series {
            let cells = [
                Cell(path: "iptables-nft", samples: [1, 2, 1, 2, 9]), Cell(path: "fastnat-tc", samples: samples),
            ]
            return Series(name: "any", metric: "packets", unit: .packetsPerSecond, cells: cells)
        }
        let comparison = try #require(series([4, 8, 4, 8, 18]).comparison("fastnat-tc"))
        #expect(comparison.median == 4 && !comparison.isNoisy)
        #expect(series([4, 8, 4, 8, 18]).cells.allSatisfy { $0.isNoisy })
        #expect(series([4, 8]).ratio("fastnat-tc") == nil)
        #expect(series([]).ratio("fastnat-tc") == nil)
    }

    @Test("A path that took one turn a round is compared in that turn")
    func strides() {
        func ratio(_ path: Cell, to reference: Cell) -> Double? {
            Series(name: "any", metric: "packets", unit: .packetsPerSecond, cells: [path, reference])
                .ratio(path.path, to: reference.path)
        }
        let each = Cell(path: "fastnat-tc", samples: [2, 900, 900, 4, 900, 900])
        let first = Cell(path: "nftables", samples: [1, 2], stride: 3)
        #expect(ratio(each, to: first) == 2)
        #expect(ratio(first, to: each) == 0.5)
        #expect(ratio(first, to: first) == 1)
        #expect(ratio(each, to: Cell(path: "nftables", samples: [1, 2, 3], stride: 3)) == nil)
        #expect(ratio(first, to: Cell(path: "routing", samples: [1], stride: 6)) == nil)
    }

    @Test("Of a stream's paths, those that targets ask about take all turns")
    func judged() {
        let paths = Set(
            ["throughput", "efficiency"].flatMap { metric in
                Target.all.flatMap { $0.paths("bulk", "1 stream down", metric) }
            })
        #expect(
            paths == [.fastnatTC, .fastnatAuto, .routing, .iptablesNFT, .redirectTC, .redirectPeer, .bareTC])
        #expect(Target.all.flatMap { $0.paths("bulk", "no such", "throughput") }.isEmpty)
    }

    @Test(
        "Values as people read them",
        arguments: [
            (FigureUnit.packetsPerSecond, 4_333_333.0, "4.33 M"), (.packetsPerSecond, 999_700, "1.00 M"),
            (.packetsPerSecond, 999_400, "999 k"), (.connectionsPerSecond, 32_449, "32.4 k"),
            (.flowsPerSecond, 12, "12.0"),
            (.microseconds, 7.749, "7.75"), (.bytes, 288, "288"), (.milliseconds, 0.05, "0.05"),
        ])
    func formatting(unit: FigureUnit, value: Double, text: String) { #expect(unit.format(value) == text) }

    @Test("JSON keeps everything")
    func json() throws {
        let file = NSTemporaryDirectory() + "bench-\(UUID()).json"
        defer { try? FileManager.default.removeItem(atPath: file) }
        let report = Report.sample()
        try report.write(to: file)
        #expect(try Report(readingFrom: file) == report)
    }

    @Test("The names in the JSON file are these")
    func schema() throws {
        let text = try Report.sample().json()
        let value = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(value.keys.sorted() == ["machine", "paths", "schema", "seconds", "settings", "targets", "workloads"])
        let workload = try #require((value["workloads"] as? [[String: Any]])?.first)
        #expect(workload.keys.sorted() == ["name", "series", "title"])
        let series = try #require((workload["series"] as? [[String: Any]])?.first)
        #expect(series.keys.sorted() == ["cells", "metric", "name", "unit"])
        #expect(series["unit"] as? String == "packets/s")
        let cells = try #require(series["cells"] as? [[String: Any]])
        #expect(cells[1].keys.sorted() == ["median", "path", "samples", "spread"])
        #expect(cells[2].keys.sorted() == ["missing", "path", "samples"])
    }

    @Test("A file of another layout is refused, and so is one that is no JSON")
    func refusal() throws {
        let file = NSTemporaryDirectory() + "bench-\(UUID()).json"
        defer { try? FileManager.default.removeItem(atPath: file) }
        var report = Report.sample()
        report.schema = 99
        try report.write(to: file)
        #expect(throws: BenchError.self) { try Report(readingFrom: file) }
        try Data("{}".utf8).write(to: URL(filePath: file))
        #expect(throws: BenchError.self) { try Report(readingFrom: file) }
        #expect(throws: BenchError.self) { try Report(readingFrom: file + ".none") }
    }

    @Test("A loss of more than 10 % of the lead counts", arguments: [(4.0, 0), (3.61, 0), (3.59, 1), (8, 0)])
    func comparison(now: Double, losses: Int) {
        let comparison = Comparison(of: .sample(fastnat: now), with: .sample())
        #expect(comparison.losses.count == losses)
        #expect(comparison.compared == 2)
    }

    @Test("A figure that is gone is a loss, a noisy one is not compared")
    func uncertainComparison() {
        var gone = Report.sample()
        gone.workloads[0].series[0].cells[1] = Cell(path: "fastnat-xdp", samples: [], missing: "nothing arrived")
        #expect(Comparison(of: gone, with: .sample()).losses.map(\.now) == [nil])
        let noisy = Comparison(of: .sample(fastnat: 1, spread: [0.5, 1, 1.5]), with: .sample())
        #expect(noisy.losses.isEmpty && noisy.compared == 1)
    }
}
