import FastNATTesting

/// Takes the steps of a sequence with the kernel's NAT and with the model. Both have the last word on nothing: where they
/// differ, either the model promises what nobody expects of a NAT, or the sequence leaves what they have in common.
///
/// In common are: destinations and sources that change, the order of mappings, ports that no two flows share, both directions of a flow, packets of no flow, TCP connections one after another on the same
/// ports, connections that outlive their mapping, a flush.
///
/// Left out is what fastnat does otherwise, or the kernel's connection tracking takes for invalid: segments that do not fit the
/// state of their connection (fastnat translates them; netfilter passes them untranslated), RSTs, wrong checksums, mappings
/// whose ports lead to as many (nftables has no such rule), source ports below 1,024 (other ranges to choose from), spoofed
/// sources, silence, `--cut`, the removal of what has UDP flows (netfilter leaves those behind), tuples that came before there
/// was a rule for them (netfilter goes on as it began), and a target that comes to its own port from its own port (its answer
/// has the tuple of its request; netfilter leaves it so).
struct KernelRunner: ~Copyable {
    private let kernel: KernelNAT
    private var model = ReferenceModel(choosingPorts: true)
    private var result = SequenceResult()
    /// How far connections have come, by their original tuple.
    private var stages: [ModelTuple: Stage] = [:]
    private var number: UInt32 = 0
    /// The rules are those of the model before.
    private var isStale = true
    /// What the kernel tracks untranslated since the rules changed last, and since before that: its connections, both ways.
    private var untranslated: (now: Set<ModelTuple>, before: Set<ModelTuple>) = ([], [])

    private init(_ kernel: KernelNAT) { self.kernel = kernel }

    static func run(_ steps: [Step], on kernel: KernelNAT) throws -> SequenceResult {
        var runner = KernelRunner(kernel)
        try kernel.flush()
        for step in steps where runner.result.difference == nil { try runner.take(step) }
        return runner.result
    }

    private mutating func take(_ step: Step) throws {
        switch step {
        case .packet(let packet): return try send(packet)
        case .map(let plan):
            guard plan.hasOneTarget, model.add(plan) else { return }
            note("map add \(plan.text)")
        case .unmap(let number, _):
            guard let index = mapping(number) else { return }
            let text = model.mappings[index].plan.text
            note("map rm \(text)")
            model.change(index, targetPort: nil, cut: false)
        case .remap(let number, let port, _):
            guard let index = mapping(number) else { return }
            let text = model.mappings[index].plan.text
            note("map replace \(text) with \(port)")
            model.change(index, targetPort: port, cut: false)
        case .masquerade(let plan):
            guard model.add(plan) else { return }
            note("masquerade add \(plan)")
        case .flush:
            note("conntrack flush")
            model.flush()
            stages = [:]
            untranslated = ([], [])
            return try kernel.flush()
        case .unmasquerade, .forgetNextHops, .wait: return
        }
        isStale = true
    }

    /// The index of a mapping that may go.
    private func mapping(_ number: Int) -> Int? {
        guard !model.mappings.isEmpty else { return nil }
        let index = number % model.mappings.count
        let mapping = model.mappings[index]
        return mapping.plan.transport == .tcp ? index : nil
    }

    private mutating func send(_ step: PacketStep) throws {
        var step = step
        if isStale { untranslated = ([], untranslated.before.union(untranslated.now)) }
        guard step.isCommonGround, let tuple = tuple(step), !untranslated.before.contains(tuple) else { return }
        step.transport = tuple.transport
        let side: Side = Party.containers.contains(tuple.source.address) ? .container : .uplink
        if tuple.transport == .tcp {
            guard let flags = flags(tuple, step) else { return }
            step.flags = flags
        }
        if isStale { try kernel.setRules(model) }
        isStale = false
        number += 1
        let marker = Array("fnat\(number);".utf8)
        step.payload = marker + step.payload
        let packet = step.packet(tuple.source, tuple.destination, on: kernel.device(side))
        // What the kernel did is not known before the model says what to wait for, and the model asks which port it has taken.
        var frame: [UInt8]?
        var isSent = false
        let kernel = kernel
        func outcome(_ isExpected: Bool) -> [UInt8]? {
            if !isSent { frame = try? kernel.forward(packet, from: side, marker: marker, isExpected: isExpected) }
            isSent = true
            return frame
        }
        let expectation = model.receive(packet, nil, on: side) { outcome(true).flatMap { PacketView($0).source } }
        note("\(side): \(packet.line) → \(expectation.line)")
        if case .forwarded(let expected) = expectation {
            result.forwarded += 1
            let lines = outcome(true).map { diff(expected.bytes, $0) } ?? ["not forwarded"]
            if !lines.isEmpty { differ("the kernel: \(lines)") }
            return
        }
        untranslated.now.formUnion([tuple, tuple.reversed])
        // What is passed goes on up the stack, which may route it as it is.
        guard let view = outcome(false).map({ PacketView($0) }) else { return }
        let isUntouched = view.source == packet.source && view.destination == packet.destination
        // One that comes straight to a container, and looks as one of a flow does there, is given another port by netfilter.
        let isTaken = model.flows.contains { $0.halves.contains { $0.tuple.reversed == tuple } }
        if !isUntouched && !isTaken { differ("the kernel forwards: \(view)") }
    }

    private func tuple(_ step: PacketStep) -> ModelTuple? {
        switch step.ends {
        case .between(let source, let port, let destination, let destinationPort):
            guard ![.host, .gateway, .linkLocal, .martian].contains(source), port >= 1_024,
                port != destinationPort || !Party.containers.contains(source.address(step.family))
            else { return nil }
            return ModelTuple(
                transport: step.transport, source: Packet.Endpoint(source.address(step.family), port: port),
                destination: Packet.Endpoint(destination.address(step.family), port: destinationPort))
        case .flow(let number, let isReply):
            guard !model.flows.isEmpty else { return nil }
            return model.flows[number % model.flows.count][isReply ? .reply : .original].tuple
        }
    }

    private mutating func note(_ line: @autoclosure @escaping () -> String) {
        result.steps += 1
        result.lines.append(line)
    }

    private mutating func differ(_ text: String) { result.difference = text }
}

extension KernelRunner {
    /// How far a connection has come.
    enum Stage {
        case opening, answered, established, closingByClient, closingByTarget, lastACK(ofClient: Bool), closed
    }

    /// Flags that fit the state of the connection, as an end that keeps to RFC 9293 would send; nil: it would send nothing.
    /// For a connection of no flow, those of the step.
    private mutating func flags(_ tuple: ModelTuple, _ step: PacketStep) -> Packet.TCPFlags? {
        guard let flow = model.flows.first(where: { flow in flow.halves.contains { $0.tuple == tuple } }) else {
            let isKept = step.flags == .syn || step.flags == [.syn, .fin]
            let flags: Packet.TCPFlags = isKept ? step.flags : step.flags.contains(.ack) ? [.ack] : .syn
            stages[tuple] = .opening
            return flags
        }
        let original = flow[.original].tuple
        let isClient = tuple == original
        let ends = step.flags.contains(.fin) || step.payload.first == 7
        switch stages[original] ?? .opening {
        case .opening:
            if isClient { return .syn }
            return advance(original, .answered, [.syn, .ack])
        case .answered: return isClient ? advance(original, .established, .ack) : [.syn, .ack]
        case .established:
            if !ends { return [.psh, .ack] }
            return advance(original, isClient ? .closingByClient : .closingByTarget, [.fin, .ack])
        case .closingByClient: return isClient ? .ack : advance(original, .lastACK(ofClient: true), [.fin, .ack])
        case .closingByTarget: return isClient ? advance(original, .lastACK(ofClient: false), [.fin, .ack]) : .ack
        case .lastACK(let ofClient): return isClient == ofClient ? advance(original, .closed, .ack) : nil
        case .closed: return isClient ? advance(original, .opening, .syn) : nil
        }
    }

    private mutating func advance(_ tuple: ModelTuple, _ stage: Stage, _ flags: Packet.TCPFlags) -> Packet.TCPFlags {
        stages[tuple] = stage
        return flags
    }
}

extension PacketStep {
    /// Whether the kernel does with it what fastnat does.
    fileprivate var isCommonGround: Bool { !isAstray && checksum == .correct && fault == nil && payload.count < 1_000 }
}
