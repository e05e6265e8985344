internal import Addresses
internal import FastNAT

// The shapes of --json.

/// A value that is null where there is none: every object has every key.
struct Nullable<Value: Encodable>: Encodable {
    let value: Value?

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let value { try container.encode(value) } else { try container.encodeNil() }
    }
}

/// The limits of a mapping or masquerade, keys of its own object.
struct LimitRecord: Encodable {
    let limitFlows: Nullable<UInt32>
    let limitRate: Nullable<String>
    let limitFlowsPerSource: Nullable<UInt32>
    let limitRatePerSource: Nullable<String>

    init(_ limits: FlowLimits) {
        limitFlows = Nullable(value: limits.flows)
        limitRate = Nullable(value: limits.rate?.description)
        limitFlowsPerSource = Nullable(value: limits.flowsPerSource)
        limitRatePerSource = Nullable(value: limits.ratePerSource?.description)
    }
}

/// A record and the limits that are keys of the same object.
struct Limited<Record: Encodable>: Encodable {
    let record: Record
    let limits: LimitRecord

    init(_ record: Record, _ limits: FlowLimits) {
        self.record = record
        self.limits = LimitRecord(limits)
    }

    func encode(to encoder: any Encoder) throws {
        try record.encode(to: encoder)
        try limits.encode(to: encoder)
    }
}

struct MappingRecord: Encodable {
    let `protocol`: String
    let family: String
    let address: Nullable<String>
    let port: UInt16
    let portEnd: UInt16
    let target: String
    let targetPort: UInt16
    let targetPortEnd: UInt16
    let allow: [String]
    let owner: Nullable<String>
    let packets: UInt64
    let bytes: UInt64
    let flows: Int

    init(_ installed: InstalledMapping) {
        let mapping = installed.mapping
        `protocol` = mapping.listen.transport.name
        family = mapping.family.description.lowercased()
        address = Nullable(value: mapping.listen.address?.description)
        port = mapping.listen.ports.first
        portEnd = mapping.listen.ports.last
        target = mapping.target.address.description
        targetPort = mapping.target.ports.first
        targetPortEnd = mapping.target.ports.last
        allow = mapping.allow.map(\.description)
        owner = Nullable(value: installed.owner?.text)
        packets = installed.packets
        bytes = installed.bytes
        flows = installed.flows
    }
}

struct MasqueradeRecord: Encodable {
    let network: String
    let uplink: String
    let to: Nullable<String>
    let ports: Nullable<String>
    let exempt: [String]
    let type: String
    let filter: Nullable<String>
    let owner: Nullable<String>
    let packets: UInt64
    let bytes: UInt64
    let flows: Int

    init(_ installed: InstalledMasquerade) {
        let rule = installed.rule
        network = rule.network.description
        uplink = rule.uplink
        to = Nullable(value: rule.source?.description)
        ports = Nullable(value: rule.ports?.description)
        exempt = rule.exempt.map(\.description)
        type = rule.type.name
        filter = Nullable(value: rule.type.filter?.rawValue)
        owner = Nullable(value: installed.owner?.text)
        packets = installed.packets
        bytes = installed.bytes
        flows = installed.flows
    }
}

struct StateChangeRecord: Encodable {
    let change: String
    let what: String

    init(_ change: StateChange) { self.init(text: change.description) }

    init(text: String) {
        change = text.hasPrefix("+") ? "add" : text.hasPrefix("-") ? "remove" : "change"
        what = String(text.dropFirst(2))
    }
}

struct FlowRecord: Encodable {
    struct Tuple: Encodable {
        let source: String
        let sourcePort: UInt16
        let destination: String
        let destinationPort: UInt16

        init(_ direction: FlowDirection) {
            source = direction.source.address.description
            sourcePort = direction.source.port
            destination = direction.destination.address.description
            destinationPort = direction.destination.port
        }
    }

    struct Counts: Encodable {
        let original: UInt64
        let reply: UInt64
    }

    let `protocol`: String
    let state: String
    let original: Tuple
    let reply: Tuple
    let packets: Counts
    let bytes: Counts
    let age: Double
    let expires: Double

    init(_ flow: Flow) {
        `protocol` = flow.protocol.name
        state = flow.state.rawValue
        original = Tuple(flow.original)
        reply = Tuple(flow.reply)
        packets = Counts(original: flow.original.packets, reply: flow.reply.packets)
        bytes = Counts(original: flow.original.bytes, reply: flow.reply.bytes)
        age = (flow.age * 1000).rounded() / 1000
        expires = (flow.expires * 1000).rounded() / 1000
    }
}

struct StatusRecord: Encodable {
    struct Program: Encodable {
        let interface: String
        let role: String
        let hook: String
        let attached: Bool
        let reason: String
    }

    struct Flows: Encodable {
        let used: Int
        let usedOverIPv6: Int
        let limit: Int
        let halfOpen: Int
        let halfOpenLimit: Int
        let sweepSteps: UInt64
        let longestSweepStepNanoseconds: UInt64
    }

    struct Reason: Encodable {
        let name: String
        let dropped: Bool
        let packets: UInt64
        let text: String
    }

    struct Timeouts: Encodable {
        let tcpHalfOpen: UInt32
        let tcpOpen: UInt32
        let tcpClosing: UInt32
        let udp: UInt32
        let icmp: UInt32
    }

    struct Features: Encodable {
        let used: [String]
        let missed: [String]
    }

    struct Host: Encodable {
        let hooks: [String]
        let reason: String

        init(_ access: HostAccess) {
            switch access {
            case .on(let hooks): (self.hooks, reason) = (hooks, "")
            case .off(let reason): (hooks, self.reason) = ([], reason)
            }
        }
    }

    let programs: [Program]
    let host: Host
    let flows: Flows
    let mappings: Int
    let masquerades: Int
    let reasons: [Reason]
    let timeouts: Timeouts
    let features: Features

    init(_ status: Status) {
        programs = status.programs.map { program in
            Program(
                interface: program.interface, role: program.role.rawValue, hook: program.hook.rawValue,
                attached: program.isAttached, reason: program.reason ?? "")
        }
        host = Host(status.hostAccess)
        let count = status.flows
        flows = Flows(
            used: count.flows, usedOverIPv6: count.wide, limit: count.limit, halfOpen: count.halfOpen,
            halfOpenLimit: count.halfOpenLimit,
            sweepSteps: count.sweepSteps, longestSweepStepNanoseconds: count.longestSweepStep)
        mappings = status.mappings
        masquerades = status.masquerades
        reasons = status.reasons.map { reason in
            Reason(name: reason.name, dropped: reason.isDrop, packets: reason.packets, text: reason.text)
        }
        timeouts = Timeouts(
            tcpHalfOpen: status.timeouts.tcpHalfOpen, tcpOpen: status.timeouts.tcpOpen,
            tcpClosing: status.timeouts.tcpClosing, udp: status.timeouts.udp, icmp: status.timeouts.icmp)
        features = Features(used: status.featuresUsed, missed: status.featuresMissed)
    }
}
