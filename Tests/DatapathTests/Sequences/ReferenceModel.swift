import FastNATTesting

/// What must become of a packet.
enum Expectation {
    /// Up the stack as it came, counted under a reason or not at all.
    case passed(String?)
    case dropped(String?)
    /// Out of the host, as this packet.
    case forwarded(Packet)
    /// Dropped under a reason, and its sender told by an ICMP error unless that happens too often.
    case reported(String)
}

/// What fastnat promises, stated as simply as can be: lists of mappings and flows that are searched from end to end. It shares
/// nothing with the datapath, and is none: it knows of no hash, slot, stage, clock or second CPU.
struct ReferenceModel {
    struct Mapping {
        let id: Int
        var plan: MappingPlan
    }

    struct Masquerade {
        let id: Int
        let plan: MasqueradePlan
    }

    private(set) var mappings: [Mapping] = []
    private(set) var masquerades: [Masquerade] = []
    private(set) var flows: [ModelFlow] = []
    /// Mappings, the way to whose target is known since less than a second.
    private var routedRules: Set<Int> = []
    /// Seconds of silence so far.
    private(set) var now = 0
    private var lastID = 0
    /// Any free port is right, the client's own or not: to the kernel, connections that it has not translated take ports, too, and
    /// a client whose port was changed once has the same again. fastnat keeps each flow's own port if it is free.
    private let choosesPorts: Bool

    init(choosingPorts: Bool = false) { choosesPorts = choosingPorts }

    // MARK: commands

    /// false: another mapping has one of its ports.
    mutating func add(_ plan: MappingPlan) -> Bool {
        guard !mappings.contains(where: { $0.plan.overlaps(plan) }) else { return false }
        mappings.append(Mapping(id: nextID(), plan: plan))
        return true
    }

    /// Removes a mapping, or gives it another target port. Its UDP flows end; its TCP connections drain or are cut.
    mutating func change(_ index: Int, targetPort: UInt16?, cut: Bool) {
        let old = mappings[index]
        if let targetPort {
            var plan = old.plan
            plan.targetPort = targetPort
            mappings[index] = Mapping(id: nextID(), plan: plan)
        } else {
            mappings.remove(at: index)
        }
        flows.removeAll { $0.rule == old.id && $0.transport == .udp }
        if cut { for index in flows.indices where flows[index].rule == old.id { flows[index].cut() } }
    }

    /// false: there is one already.
    mutating func add(_ plan: MasqueradePlan) -> Bool {
        guard !masquerades.contains(where: { $0.plan.family == plan.family }) else { return false }
        masquerades.append(Masquerade(id: nextID(), plan: plan))
        return true
    }

    /// false: there is none.
    mutating func removeMasquerade(_ family: Family) -> Bool {
        guard let index = masquerades.firstIndex(where: { $0.plan.family == family }) else { return false }
        let old = masquerades.remove(at: index)
        flows.removeAll { $0.rule == old.id && $0.transport == .udp }
        return true
    }

    mutating func flush() { flows = [] }

    mutating func forgetNextHops() {
        for index in flows.indices {
            if flows[index].sharesWay { routedRules.remove(flows[index].rule) }
            for half in 0..<2 { flows[index].halves[half].isRouted = false }
        }
    }

    mutating func wait(_ seconds: Int) {
        now += seconds
        flows.removeAll { $0.isIdle(at: now, FlowExpiryTests.spread) }
    }

    private mutating func nextID() -> Int {
        lastID += 1
        return lastID
    }

    // MARK: packets

    /// Whether XDP must take a packet rather than leave it to TC: it is of a known flow, and nothing about it is out of the
    /// ordinary.
    func isOrdinary(_ packet: Packet, _ fault: PacketStep.Fault?) -> Bool {
        guard fault == nil, let tuple = packet.tuple, let (index, direction) = find(tuple) else { return false }
        let (flow, half) = (flows[index], flows[index][direction])
        let isRouted = flow.sharesWay && direction == .original ? routedRules.contains(flow.rule) : half.isRouted
        let isPartial = packet.transportField == packet.with { $0.transportChecksum = .partial }.transportField
        return isRouted && half.device == packet.link?.destination && packet.ttl > 1 && !isPartial
            && packet.ipv4?.options.isEmpty != false
            && packet.bytes.count - 14 <= 1_500 && packet.tcp?.flags.contains(.syn) != true
    }

    /// What must become of a packet. `observed` is where it has come from when it left the datapath: of all ports that are
    /// free, that one is as good as any.
    mutating func receive(
        _ packet: Packet, _ fault: PacketStep.Fault?, on side: Side, observed: () -> Packet.Endpoint?
    ) -> Expectation {
        if let fault { return .passed(fault.isMalformed ? "malformed" : nil) }
        guard let tuple = packet.tuple else { return .passed(nil) }
        if let (index, direction) = find(tuple) {
            guard isReuse(packet, index, direction) else { return forward(packet, index, direction, isFirst: false) }
            flows.remove(at: index)
        }
        return packet.tcp?.beginsConnection ?? true ? begin(packet, tuple, side, observed) : .passed(nil)
    }

    private func find(_ tuple: ModelTuple) -> (index: Int, ModelFlow.Direction)? {
        for (index, flow) in flows.enumerated() {
            if flow[.original].tuple == tuple { return (index, .original) }
            if flow[.reply].tuple == tuple { return (index, .reply) }
        }
        return nil
    }

    /// A SYN of the client on a connection that has ended begins the next one. Where only a RST that may be forged says that it
    /// has, the target decides, unless the port leads elsewhere by now.
    private func isReuse(_ packet: Packet, _ index: Int, _ direction: ModelFlow.Direction) -> Bool {
        let flow = flows[index]
        guard direction == .original, packet.tcp?.beginsConnection == true, flow.isClosing else { return false }
        return !flow.isInDoubt || mapping(of: flow[.original].tuple)?.id != flow.rule
    }

    private mutating func forward(
        _ packet: Packet, _ index: Int, _ direction: ModelFlow.Direction, isFirst: Bool
    ) -> Expectation {
        var packet = packet
        if flows[index].isCut, let tcp = packet.tcp, !tcp.flags.contains(.rst) {
            guard tcp.flags.contains(.ack), packet.ipv4?.options.isEmpty != false else { return .dropped(nil) }
            packet = packet.asReset
        }
        let other: ModelFlow.Direction = direction == .original ? .reply : .original
        let onward = flows[index][other].tuple.reversed
        let refusal: Expectation? =
            if TestNetwork.neighbour(of: onward.destination.address) == nil {
                .dropped("no_route")
            } else if packet.ttl <= 1 {
                .reported("ttl_expired")
            } else if packet.bytes.count - 14 > 1_500 {
                .reported("too_big")
            } else {
                nil
            }
        if let refusal {
            routed(index, direction, onward)
            if isFirst { flows.remove(at: index) }
            return refusal
        }
        flows[index].track(packet, direction, now: now)
        routed(index, direction, onward)
        if flows[index].sharesWay, direction == .original { flows[index][.original].device = packet.link?.destination }
        return .forwarded(packet.translated(to: onward))
    }

    /// Notes that the way of a direction was asked for, which also says where frames of the other direction are sent to, unless
    /// that is seen in them.
    private mutating func routed(_ index: Int, _ direction: ModelFlow.Direction, _ onward: ModelTuple) {
        guard let side = TestNetwork.neighbour(of: onward.destination.address)?.side else { return }
        let flow = flows[index]
        if flow.sharesWay, direction == .original {
            routedRules.insert(flow.rule)
            flows[index][.reply].device = TestNetwork.deviceMAC(side)
            return
        }
        flows[index][direction].isRouted = !flow.isCut
        if direction == .original {
            flows[index][.reply].device = TestNetwork.deviceMAC(side)
        } else if !flow.sharesWay {
            flows[index][.original].device = TestNetwork.deviceMAC(side)
        }
    }

    // MARK: new flows

    private mutating func begin(
        _ packet: Packet, _ tuple: ModelTuple, _ side: Side, _ observed: () -> Packet.Endpoint?
    ) -> Expectation {
        var refusal: String?
        if let mapping = mapping(of: tuple) {
            refusal = reasonToRefuse(tuple, mapping.plan)
            guard let refusal else { return publish(packet, tuple, mapping, side, observed) }
            if refusal == "martian_source" { return .dropped(refusal) }
        }
        guard side == .container, refusal == nil || refusal == "not_local" else { return .passed(refusal) }
        return masquerade(packet, tuple, observed)
    }

    /// The mapping of an address of the host's beats one for any.
    private func mapping(of tuple: ModelTuple) -> Mapping? {
        let candidates = mappings.filter {
            $0.plan.transport == tuple.transport && $0.plan.ports.contains(tuple.destination.port)
                && $0.plan.family == tuple.destination.address.family
        }
        return candidates.first { $0.plan.host == tuple.destination.address }
            ?? candidates.first { $0.plan.host == nil }
    }

    private func reasonToRefuse(_ tuple: ModelTuple, _ plan: MappingPlan) -> String? {
        let (source, family) = (tuple.source.address, plan.family)
        // The kernel forwards nothing for such IPv6 sources, so it does not say where the destination is.
        let isUnknown = family == .ipv6 && [Party.linkLocal, .martian].contains { $0.address(family) == source }
        if plan.host == nil, !isUnknown, TestNetwork.neighbour(of: tuple.destination.address) != nil {
            return "not_local"
        }
        if !plan.allowed.isEmpty, !plan.allowed.contains(source) { return "not_allowed" }
        if source == Party.linkLocal.address(family) { return "link_local" }
        let isOfHost = TestNetwork.neighbour(of: source) == nil
        return isOfHost || source == Party.martian.address(family) ? "martian_source" : nil
    }

    private mutating func publish(
        _ packet: Packet, _ tuple: ModelTuple, _ mapping: Mapping, _ side: Side, _ observed: () -> Packet.Endpoint?
    ) -> Expectation {
        let plan = mapping.plan
        let offset = plan.hasOneTarget ? 0 : tuple.destination.port - plan.ports.lowerBound
        let target = Packet.Endpoint(plan.target, port: plan.targetPort + offset)
        // A container is seen under the address that it has sent to, or the reply would not come back through the host.
        let seen = side == .container ? tuple.destination.address : tuple.source.address
        let ports: ClosedRange<UInt16> = (tuple.source.port < 1_024 ? 1 : 1_024)...65_535
        return open(packet, tuple, mapping.id, target, seenAs: seen, ports, sharesWay: side == .uplink, observed)
    }

    private mutating func masquerade(
        _ packet: Packet, _ tuple: ModelTuple, _ observed: () -> Packet.Endpoint?
    ) -> Expectation {
        let family = tuple.source.address.family
        let members = [family.target, family.otherTarget, family.gateway]
        guard let rule = masquerades.first(where: { $0.plan.family == family }), members.contains(tuple.source.address),
            !rule.plan.exempt.contains(tuple.destination.address),
            TestNetwork.neighbour(of: tuple.destination.address)?.side == .uplink
        else { return .passed(nil) }
        let own = tuple.source.port
        let ports = rule.plan.ports ?? (own < 512 ? 1...511 : own < 1_024 ? 512...1_023 : 1_024...65_535)
        return open(
            packet, tuple, rule.id, tuple.destination, seenAs: rule.plan.source, ports, sharesWay: false, observed)
    }

    /// Begins a flow to `target`, with the client's own port if that is of the range and free, or else with any that is.
    private mutating func open(
        _ packet: Packet, _ tuple: ModelTuple, _ rule: Int, _ target: Packet.Endpoint, seenAs address: Packet.Address,
        _ ports: ClosedRange<UInt16>, sharesWay: Bool, _ observed: () -> Packet.Endpoint?
    ) -> Expectation {
        func reply(_ port: UInt16) -> ModelTuple {
            ModelTuple(
                transport: tuple.transport, source: target, destination: Packet.Endpoint(address, port: port))
        }
        func isFree(_ port: UInt16) -> Bool {
            ports.contains(port) && find(reply(port)) == nil && reply(port) != tuple
        }
        // Where the flow is not kept, nobody sees its port: there the search from the first one is as good.
        let own = isFree(tuple.source.port) && !choosesPorts ? tuple.source.port : nil
        guard let port = own ?? [observed()?.port].compactMap({ $0 }).first(where: isFree) ?? ports.first(where: isFree)
        else {
            return sharesWay ? .dropped("no_free_port") : .reported("no_free_port")  // a container is told
        }
        flows.append(
            ModelFlow(
                rule: rule, sharesWay: sharesWay, original: tuple, reply: reply(port), device: packet.link?.destination,
                now: now))
        return forward(packet, flows.count - 1, .original, isFirst: true)
    }
}

extension MappingPlan {
    /// Whether one packet could be of both, and neither is more specific.
    func overlaps(_ other: MappingPlan) -> Bool {
        family == other.family && transport == other.transport && host == other.host && ports.overlaps(other.ports)
    }
}

extension TestNetwork {
    /// The address of the host's device on a side.
    static func deviceMAC(_ side: Side) -> Packet.MAC { side == .uplink ? "02:00:00:00:01:01" : "02:00:00:00:02:01" }
}

extension Packet.Address {
    fileprivate var family: Family { isIPv6 ? .ipv6 : .ipv4 }
}
