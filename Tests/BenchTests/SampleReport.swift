@testable import Bench

extension Report {
    /// Figures of three paths, one of which has none in one workload.
    static func sample(fastnat: Double = 4, spread: [Double] = [0.99, 1, 1.01]) -> Report {
        let rate = Series(
            name: "direct, 1 flow", metric: "packets", unit: .packetsPerSecond,
            cells: [
                Cell(path: "iptables-nft", samples: [0.99e6, 1e6, 1.01e6]),
                Cell(path: "fastnat-xdp", samples: spread.map { $0 * fastnat * 1e6 }),
                Cell(path: "docker-proxy", samples: [], missing: "of 64 packets, 3 <arrived> & \"no more\""),
            ])
        let latency = Series(
            name: "direct, TCP", metric: "p50", unit: .microseconds,
            cells: [
                Cell(path: "iptables-nft", samples: [10]), Cell(path: "fastnat-xdp", samples: [8]),
                Cell(path: "docker-proxy", samples: [40]),
            ])
        return Report(
            machine: Machine(
                processor: "A <Processor>", cpus: 2, memory: 8, kernel: "6.18.0", system: "Debian",
                date: "2026-01-02T03:04:05Z",
                fastnat: "0.1.0", tools: ["iptables": "v1.8.9"], offloads: ["tx-checksumming"], load: 0.1,
                readNanoseconds: 90, lineNanoseconds: nil),
            settings: Report.Settings(rounds: 3, sampleSeconds: 0.4, quick: false),
            paths: [PathKind.iptablesNFT, .dockerProxy, .fastnatXDP].map { .init(name: $0.rawValue, text: $0.text) },
            workloads: [
                WorkloadReport(name: "pps", title: "packets", series: [rate]),
                WorkloadReport(name: "rr", title: "latency", series: [latency]),
            ], seconds: 61)
    }

    /// One workload, with these figures of some paths.
    static func of(
        _ workload: String, _ unit: FigureUnit, _ figures: [(name: String, cells: [(PathKind, [Double])])]
    ) -> Report {
        var report = sample()
        report.paths = PathKind.allCases.map { .init(name: $0.rawValue, text: $0.text) }
        let series = figures.map { figure in
            Series(
                name: figure.name, metric: "m", unit: unit,
                cells: figure.cells.map { Cell(path: $0.0.rawValue, samples: $0.1, missing: "it broke") })
        }
        report.workloads = [WorkloadReport(name: workload, title: "", series: series)]
        return report
    }
}
