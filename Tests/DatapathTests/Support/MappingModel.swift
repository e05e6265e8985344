import BPF
import FastNATTesting

@testable import FastNAT

/// What the datapath should do, in the simplest way.
struct MappingModel {
    let kind: Kind
    var mappings: [PortMapping] = []

    /// The addresses that mappings may name, or not.
    var hosts: [Packet.Address] { [kind.family.host, kind.family.otherHost] }

    /// A mapping of a range of some size that begins anywhere, often next to another one or at the edge of a bitmap's
    /// word; nil when there is no room for it.
    func random(_ random: inout Generator) throws -> PortMapping? {
        let size = [1, 1, 2, 3, 63, 64, 65, 500, 5_000].randomElement(using: &random) ?? 1
        var first = Int.random(in: 1...65_535, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: first = first / 64 * 64
        case 1: first = first / 4_096 * 4_096 - 1
        case 2: first = Int(mappings.randomElement(using: &random)?.listen.ports.last ?? 0) + 1
        default: break
        }
        guard first > 0, first + size <= 65_536 else { return nil }
        let last = first + size - 1
        let target = Bool.random(using: &random) ? "7" : "\(65_536 - size)-65535"
        let host = Int.random(in: 0..<3, using: &random) == 0 ? kind.family.otherHost : nil
        return try PortMapping(
            parsing: kind.family.mapping("\(first)-\(last)/\(kind.transport)", to: target, on: host))
    }

    /// Adds a mapping unless it overlaps another one.
    mutating func add(_ mapping: PortMapping) -> Bool {
        if mappings.contains(where: { $0.overlaps(mapping) }) { return false }
        mappings.append(mapping)
        return true
    }

    /// The ends of all ranges, the ports beside them, and any others.
    func ports(_ random: inout Generator) -> [UInt16] {
        var ports: Set<UInt16> = [1, 63, 64, 4_095, 4_096, 65_535]
        for range in mappings.suffix(8).map(\.listen.ports) {
            ports.formUnion([range.first &- 1, range.first, range.first &+ 1])
            ports.formUnion([range.last &- 1, range.last, range.last &+ 1])
        }
        for _ in 0..<20 { ports.insert(.random(in: 1...65_535, using: &random)) }
        return Array(ports.subtracting([0]))
    }

    func targetPort(of port: UInt16, on host: Packet.Address) -> UInt16? {
        let isOther = host == kind.family.otherHost
        let specific = isOther ? mappings.first { $0.listen.address != nil && $0.listen.ports.contains(port) } : nil
        let any = mappings.first { $0.listen.address == nil && $0.listen.ports.contains(port) }
        return (specific ?? any)?.targetPort(for: port)
    }
}

extension TestDatapath {
    /// Where the first packets of flows to these ports go; nil: they pass. Ends every flow.
    func targetPorts(of ports: [UInt16], on host: Packet.Address, _ kind: Kind) throws -> [UInt16?] {
        let requests = ports.map { port in
            Conversation(kind).with {
                $0.published = Packet.Endpoint(host, port: port)
                $0.client.port = port
            }.request(.syn)
        }
        let results = try run(requests.map(\.bytes), at: .tc)
        _ = try datapath.flushFlows()
        return zip(requests, results).map { request, result in
            result.packet == request.bytes ? nil : PacketView(result.packet).destination?.port
        }
    }
}
