import FastNATTesting

/// Makes random sequences out of few addresses and ports, so that collisions, reuse, reversed directions, wrong sides and
/// unknown flows are everyday.
struct StepGenerator {
    private var random: Generator

    init(seed: UInt64) { random = Generator(seed: seed) }

    /// A sequence. It begins with some mappings, and often with a masquerade.
    mutating func sequence() -> [Step] {
        var steps: [Step] = []
        let families: [Family] = chance(80) ? [chance(50) ? .ipv4 : .ipv6] : Family.allCases
        for _ in 0..<Int.random(in: 1...3, using: &random) { steps.append(.map(mapping(pick(families)))) }
        if chance(60) { steps.append(.masquerade(masquerade(pick(families)))) }
        for _ in 0..<Int.random(in: 5...40, using: &random) {
            steps.append(chance(88) ? .packet(packet(pick(families))) : command(pick(families)))
        }
        return steps
    }

    private mutating func command(_ family: Family) -> Step {
        let number = Int.random(in: 0..<8, using: &random)
        switch Int.random(in: 0..<16, using: &random) {
        case 0..<4: return .map(mapping(family))
        case 4..<6: return .unmap(number, cut: chance(40))
        case 6..<8: return .remap(number, port: pick([80, 81, 8_080]), cut: chance(40))
        case 8..<10: return .masquerade(masquerade(family))
        case 10: return .unmasquerade(family)
        case 11: return .flush
        case 12..<14: return .forgetNextHops
        default: return .wait(pick([35, 65, 95, 125]))
        }
    }

    private mutating func mapping(_ family: Family) -> MappingPlan {
        let first = pick([8_080, 8_080, 8_081, 80, 40_000] as [UInt16])
        let last = first + pick([0, 0, 0, 1, 3])
        return MappingPlan(
            family: family, transport: pick(Transport.allCases),
            host: chance(30) ? pick([family.host, family.otherHost]) : nil, ports: first...last,
            target: pick([family.target, family.target, family.otherTarget]), targetPort: pick([80, 81, 8_080]),
            hasOneTarget: first == last || chance(50),
            allowed: chance(15) ? [pick([family.client, family.otherTarget])] : [])
    }

    private mutating func masquerade(_ family: Family) -> MasqueradePlan {
        MasqueradePlan(
            family: family, source: pick([family.host, family.otherHost]),
            ports: chance(30) ? 40_000...pick([40_000, 40_001, 40_400]) : nil,
            exempt: chance(20) ? [pick([family.farClient, family.client])] : [])
    }

    private mutating func packet(_ family: Family) -> PacketStep {
        let isOfFlow = chance(55)
        var step = PacketStep(
            ends: isOfFlow ? .flow(Int.random(in: 0..<8, using: &random), reply: chance(50)) : between(),
            family: family, transport: pick(Transport.allCases), hook: pick(Hook.allCases), isAstray: chance(4),
            flags: flags(isFirst: !isOfFlow))
        let length = chance(3) ? 1_600 : Int.random(in: 0...20, using: &random)
        for _ in 0..<min(length, 24) { step.payload.append(UInt8.random(in: 0...255, using: &random)) }
        step.payload += [UInt8](repeating: 7, count: length - step.payload.count)
        step.trafficClass = chance(20) ? UInt8.random(in: 0...255, using: &random) : 0
        if chance(5) { step.ttl = pick([0, 1, 2, 255]) }
        if chance(6) { step.checksum = pick([.offBy(UInt16.random(in: 1...65_535, using: &random)), .zero, .partial]) }
        step.hasOptions = chance(4)
        if chance(5) { step.fault = pick(PacketStep.Fault.allCases) }
        return step
    }

    private mutating func between() -> PacketStep.Ends {
        let isOutbound = chance(45)
        let source: Party =
            isOutbound
            ? pick([.target, .target, .target, .otherTarget, .otherTarget, .otherTarget, .client, .gateway])
            : pick([.client, .client, .client, .farClient, .farClient, .stranger, .host, .target, .linkLocal, .martian])
        let destination: Party =
            isOutbound
            ? pick([.host, .host, .otherHost, .client, .client, .farClient, .gateway, .otherTarget])
            : pick([.host, .host, .host, .host, .otherHost, .otherHost, .gateway, .target, .stranger])
        return .between(
            source, pick([40_000, 40_000, 40_000, 40_001, 8_080, 80, 53, 600]), destination,
            pick([8_080, 8_080, 8_080, 8_081, 8_083, 80, 443, 40_000]))
    }

    private mutating func flags(isFirst: Bool) -> Packet.TCPFlags {
        if isFirst && chance(75) { return .syn }
        return pick([
            .syn, [.syn, .ack], [.syn, .ack], [.syn, .ack], .ack, .ack, .ack, .ack, [.psh, .ack], [.psh, .ack],
            [.fin, .ack], [.fin, .ack], [.fin, .ack], .rst, [.rst, .ack], .fin, [], [.syn, .fin], [.syn, .rst],
            [.syn, .ece, .cwr],
        ])
    }

    private mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }

    private mutating func pick<T>(_ choices: [T]) -> T { choices[Int.random(in: 0..<choices.count, using: &random)] }
}
