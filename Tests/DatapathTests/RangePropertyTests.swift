import FastNATTesting
import Testing

@testable import FastNAT

/// Random mappings come and go, and every port must lead where a list of the mappings says.
@Suite struct RangePropertyTests {
    @Test(arguments: Kind.all, [1, 2, 3] as [UInt64])
    func `every port leads where the list of mappings says`(kind: Kind, seed: UInt64) throws {
        var random = Generator(seed: seed)
        let datapath = try TestDatapath([])
        var model = MappingModel(kind: kind)
        for _ in 0..<40 {
            let isFull = model.mappings.count > 40
            if !model.mappings.isEmpty, isFull || Int.random(in: 0..<3, using: &random) == 0 {
                let victim = model.mappings.remove(at: .random(in: 0..<model.mappings.count, using: &random))
                try datapath.datapath.removeMappings([victim.listen])
            } else {
                let new = try (0..<3).compactMap { _ in try model.random(&random) }
                for mapping in new where model.add(mapping) { try datapath.datapath.addMappings([mapping]) }
            }
            try datapath.expectLookups(of: model.ports(&random), as: model)
            _ = try datapath.datapath.flushFlows()
        }
    }
}

extension TestDatapath {
    /// Expects that the first packets of flows to these ports, on either address of the host, go where the model says.
    fileprivate func expectLookups(of ports: [UInt16], as model: MappingModel) throws {
        for host in model.hosts {
            let found = try targetPorts(of: ports, on: host, model.kind)
            let expected = ports.map { model.targetPort(of: $0, on: host) }
            if found != expected {
                let wrong = ports.indices.filter { found[$0] != expected[$0] }
                    .map { "\(ports[$0]): \(found[$0] ?? 0) in place of \(expected[$0] ?? 0)" }
                Issue.record("\(host), ports \(wrong), mappings \(model.mappings)")
            }
        }
    }
}
