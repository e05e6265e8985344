import Addresses
import BPF
import FastNATTesting
import Glibc
import Testing

@testable import FastNAT

/// How a sequence ended.
struct SequenceResult {
    /// Steps that were taken.
    var steps = 0
    /// They as text, once that is asked for: what came in, and what was to become of it.
    var lines: [() -> String] = []
    var script: [String] { lines.map { $0() } }
    /// Where datapath and model differ; nil: nowhere.
    var difference: String?
    /// Packets that were forwarded.
    var forwarded = 0
}

/// Takes the steps of a sequence with a datapath and with the model, and compares what becomes of each packet, and what is left
/// in the end. Runs in the network namespace.
struct SequenceRunner: ~Copyable {
    private let datapath: TestDatapath
    private var model = ReferenceModel()
    private var result = SequenceResult()
    /// Packets not forwarded, by reason, as the model counts them.
    private var counted: [String: UInt64] = [:]

    private init(_ datapath: TestDatapath) { self.datapath = datapath }

    /// Runs a sequence on a datapath that has nothing, and leaves it so.
    ///
    /// Next hops are good for 0.94 s. A sequence that took too long for that, on a busy machine, is run again.
    static func run(_ steps: [Step], on datapath: TestDatapath) throws -> SequenceResult {
        while true {
            let start = ContinuousClock.now
            var runner = SequenceRunner(datapath)
            let before = try datapath.reasons()
            for step in steps where runner.result.difference == nil { try runner.take(step) }
            if runner.result.difference == nil {
                try runner.compareRemains(before)
            } else {
                try runner.noteReasons(before)
            }
            try datapath.empty()
            if ContinuousClock.now - start < .milliseconds(700) { return runner.result }
        }
    }

    private mutating func take(_ step: Step) throws {
        switch step {
        case .packet(let packet): try send(packet)
        case .map(let plan):
            guard model.add(plan) else { return }
            note("map add \(plan.text)")
            try datapath.add([plan.text])
        case .unmap(let number, let cut): try change(number, targetPort: nil, cut)
        case .remap(let number, let port, let cut): try change(number, targetPort: port, cut)
        case .masquerade(let plan):
            guard model.add(plan) else { return }
            note("masquerade add \(plan)")
            try datapath.masquerade(
                plan.family, to: plan.source, ports: plan.ports, exempt: plan.exempt.map(\.description))
        case .unmasquerade(let family):
            guard model.removeMasquerade(family) else { return }
            note("masquerade rm \(family)")
            let network = try IPPrefix(parsing: family.containers)
            try datapath.datapath.removeMasquerades { $0.network == network }
        case .flush:
            note("conntrack flush")
            model.flush()
            _ = try datapath.datapath.flushFlows()
        case .forgetNextHops:
            note("next hops grow old")
            model.forgetNextHops()
            try datapath.setNextHops(.stale)
        case .wait(let seconds): try wait(seconds)
        }
    }

    private mutating func change(_ number: Int, targetPort: UInt16?, _ cut: Bool) throws {
        guard !model.mappings.isEmpty else { return }
        let index = number % model.mappings.count
        let old = try PortMapping(parsing: model.mappings[index].plan.text)
        model.change(index, targetPort: targetPort, cut: cut)
        let ending: FlowEnding = cut ? .cut : .drain
        if targetPort != nil {
            let text = model.mappings[index].plan.text
            note("map replace \(text), \(ending)")
            try datapath.datapath.replaceMappings([PortMapping(parsing: text)], ending: ending)
        } else {
            note("map rm \(old.listen), \(ending)")
            try datapath.datapath.removeMappings([old.listen], ending: ending)
        }
    }

    private mutating func wait(_ seconds: Int) throws {
        note("wait \(seconds) s")
        model.wait(seconds)
        try datapath.age(by: UInt64(seconds))
        try datapath.startSweep()
        let deadline = ContinuousClock.now + .milliseconds(500)
        while try datapath.datapath.flowCount().flows != model.flows.count, ContinuousClock.now < deadline {
            usleep(500)
        }
    }

    private mutating func send(_ step: PacketStep) throws {
        guard let (source, destination) = ends(step) else { return }
        let transport = model.flows.isEmpty ? step.transport : transport(step)
        var step = step
        step.transport = transport
        let side = sideOfArrival(source, step)
        let device = side == .uplink ? datapath.network.uplink : datapath.network.container
        let packet = step.packet(source, destination, on: device)
        let mustTakeAtXDP = model.isOrdinary(packet, step.fault)
        var hook = step.hook
        var outcome = try datapath.runHere(packet.bytes, at: hook, on: side)
        if hook == .xdp, outcome.action == 2 {  // XDP_PASS
            if mustTakeAtXDP { return differ("XDP leaves to TC: \(packet.line)") }
            if outcome.packet != packet.bytes { return differ("XDP passes, but changed: \(packet.line)") }
            hook = .tc
            outcome = try datapath.runHere(packet.bytes, at: .tc, on: side)
        } else if hook == .xdp, !mustTakeAtXDP {
            return differ("XDP takes what is TC's: \(packet.line)")
        }
        let expectation = model.receive(packet, step.fault, on: side, observed: { PacketView(outcome.packet).source })
        let fault = step.fault.map { " (\($0))" } ?? ""
        note("\(hook), \(side): \(packet.line)\(fault) → \(expectation.line)")
        compare(Outcome.Verdict(outcome.action, at: hook), outcome.packet, expectation, of: packet)
    }

    /// The ends of a packet. A sequence may ask for a flow where there is none.
    private func ends(_ step: PacketStep) -> (Packet.Endpoint, Packet.Endpoint)? {
        switch step.ends {
        case .between(let source, let port, let destination, let destinationPort):
            return (
                Packet.Endpoint(source.address(step.family), port: port),
                Packet.Endpoint(destination.address(step.family), port: destinationPort)
            )
        case .flow(let number, let isReply):
            guard !model.flows.isEmpty else { return nil }
            let tuple = model.flows[number % model.flows.count][isReply ? .reply : .original].tuple
            return (tuple.source, tuple.destination)
        }
    }

    private func transport(_ step: PacketStep) -> Transport {
        if case .flow(let number, _) = step.ends { return model.flows[number % model.flows.count].transport }
        return step.transport
    }

    private func sideOfArrival(_ source: Packet.Endpoint, _ step: PacketStep) -> Side {
        Party.containers.contains(source.address) != step.isAstray ? .container : .uplink
    }

    private mutating func compare(
        _ verdict: Outcome.Verdict, _ frame: [UInt8], _ expectation: Expectation, of packet: Packet
    ) {
        switch expectation {
        case .passed(let reason):
            if let reason { counted[reason, default: 0] += 1 }
            if verdict != .passed { return differ("\(verdict), not passed: \(PacketView(frame))") }
            let lines = diff(packet.bytes, frame)
            if !lines.isEmpty { differ("passed, but changed: \(lines)") }
        case .dropped(let reason):
            if let reason { counted[reason, default: 0] += 1 }
            if verdict != .dropped { differ("\(verdict), not dropped: \(PacketView(frame))") }
        case .forwarded(let expected):
            result.forwarded += 1
            if verdict != .redirected { return differ("\(verdict), not forwarded") }
            let lines = diff(expected.bytes, frame)
            if !lines.isEmpty { differ("forwarded, but \(lines)") }
        case .reported(let reason):
            counted[reason, default: 0] += 1
            if verdict == .dropped { return }  // more at once than the limit allows
            let view = PacketView(frame)
            if verdict != .redirected || view["icmp.type"] == nil || view.destination?.address != packet.source?.address
            {
                differ("\(verdict), not reported: \(view)")
            }
        }
    }

    /// Says of a difference what the datapath has counted, which tells why it dropped a packet.
    private mutating func noteReasons(_ before: [String: UInt64]) throws {
        let reasons = try datapath.reasons().merging(before) { $0 - $1 }.filter { $0.value > 0 }
        result.difference? += "; of all steps the datapath counted \(reasons), the model \(counted)"
    }

    /// Flows, their states and counters, and the counters of reasons.
    private mutating func compareRemains(_ before: [String: UInt64]) throws {
        let flows = Set(try datapath.datapath.flows().map(\.line))
        let expected = Set(model.flows.map(\.line))
        if flows != expected {
            return differ(
                "flows in the end: expected \(expected.subtracting(flows).sorted()), got "
                    + "\(flows.subtracting(expected).sorted())")
        }
        let halfOpen = model.flows.count { !$0.isOpen && !$0.isCut }
        let count = try datapath.datapath.flowCount()
        if count.flows != expected.count || count.halfOpen != halfOpen {
            return differ("gauges in the end: \(count), expected \(expected.count) flows, \(halfOpen) half-open")
        }
        let reasons = try datapath.reasons().merging(before) { $0 - $1 }
            .filter { $0.value != 0 && $0.key != "report_limited" }
        if reasons != counted { differ("reasons in the end: expected \(counted), got \(reasons)") }
    }

    private mutating func note(_ line: @autoclosure @escaping () -> String) {
        result.steps += 1
        result.lines.append(line)
    }

    private mutating func differ(_ text: String) { result.difference = text }
}

extension TestDatapath {
    /// Takes mappings, masquerades and flows away.
    fileprivate func empty() throws {
        try datapath.removeAllMappings()
        try removeMasquerades()
        _ = try datapath.flushFlows()
    }
}

extension Expectation {
    var line: String {
        switch self {
        case .passed(let reason): "passed" + (reason.map { " (\($0))" } ?? "")
        case .dropped(let reason): "dropped" + (reason.map { " (\($0))" } ?? "")
        case .forwarded(let packet): packet.line
        case .reported(let reason): "reported (\(reason))"
        }
    }
}

extension Packet {
    /// What matters of it, on a line of a script.
    var line: String {
        let ends = "\(source.map(\.description) ?? "?") > \(destination.map(\.description) ?? "?")"
        let kind = tcp.map { "tcp \($0.flags)" } ?? "udp"
        let link = link.map { " to \($0.destination)" } ?? ""
        return "\(kind) \(ends), ttl \(ttl), \(payload.count) bytes, checksum \(transportChecksum)\(link)"
    }
}

extension ModelFlow {
    var line: String {
        let parts = halves.map { "\($0.tuple.source) > \($0.tuple.destination) \($0.packets)/\($0.bytes)" }
        return "\(transport) \(state) " + parts.joined(separator: ", ")
    }
}

extension Flow {
    var line: String {
        let parts = [original, reply].map { "\($0.source) > \($0.destination) \($0.packets)/\($0.bytes)" }
        return "\(`protocol`) \(state.rawValue) " + parts.joined(separator: ", ")
    }
}
