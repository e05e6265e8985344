internal import Addresses
public import FastNAT

extension Configuration {
    /// The text of a file that describes a state; `Configuration(parsing:)` reads it back.
    ///
    /// - Parameter others: what is not the file's, for comments: an owner and what it has added.
    public static func text(_ state: DesiredState, others: [String] = []) -> String {
        var lines = ["# fastnat apply -f FILE brings this about. docs/configuration.md tells of every key."]
        if let uplinks = state.uplinks {
            lines += list(
                "uplinks",
                uplinks.map { uplink in
                    uplink.mode == .auto
                        ? [scalar(uplink.name)]
                        : ["interface: \(scalar(uplink.name))", "mode: \(uplink.mode.rawValue)"]
                })
        }
        if !state.containers.isEmpty { lines += list("internal", state.containers.map { [scalar($0)] }) }
        if state.attachment != .auto { lines.append("attach: \(state.attachment.rawValue)") }
        if let maximum = state.maximumFlows { lines.append("max-flows: \(maximum)") }
        if let timeouts = state.timeouts {
            lines.append("timeouts:")
            lines += timeoutNames.map { "  \($0.0): \(timeouts[keyPath: $0.1])" }
        }
        if let mappings = state.mappings { lines += list("mappings", mappings.map(fields)) }
        if let masquerades = state.masquerades { lines += list("masquerade", masquerades.map(fields)) }
        lines += others.map { "# of \($0)" }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func fields(_ entry: DesiredState.Mapping) -> [String] {
        let mapping = entry.mapping
        var fields = ["listen: \(scalar(shortest(mapping)))", "target: \(scalar(mapping.target.description))"]
        if !mapping.allow.isEmpty { fields.append("allow: \(networks(mapping.allow))") }
        fields += limits(mapping.limits)
        if entry.force { fields.append("force: true") }
        return fields
    }

    private static func fields(_ rule: MasqueradeRule) -> [String] {
        var fields = ["network: \(scalar(rule.network.description))", "iface: \(scalar(rule.uplink))"]
        if let source = rule.source { fields.append("to: \(scalar(source.description))") }
        if let ports = rule.ports { fields.append("ports: \(ports)") }
        if !rule.exempt.isEmpty { fields.append("exempt: \(networks(rule.exempt))") }
        if rule.type != .symmetric { fields.append("type: \(rule.type.name)") }
        if let filter = rule.type.filter { fields.append("filter: \(filter.rawValue)") }
        return fields + limits(rule.limits)
    }

    private static func limits(_ limits: FlowLimits) -> [String] {
        FlowLimit.allCases.compactMap { limit in limits.text(limit).map { "\(limit.rawValue): \($0)" } }
    }

    private static func networks(_ networks: [IPPrefix]) -> String {
        "[\(networks.map { scalar($0.description) }.joined(separator: ", "))]"
    }

    /// A key with items of one line or more.
    private static func list(_ key: String, _ items: [[String]]) -> [String] {
        guard !items.isEmpty else { return ["\(key): []"] }
        return ["\(key):"] + items.flatMap { lines in lines.enumerated().map { ($0 == 0 ? "  - " : "    ") + $1 } }
    }

    /// A text as YAML has it: in quotes, unless it can be nothing but itself.
    private static func scalar(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                || "./-_:@".utf8.contains(byte)
        }
        let isText = text.first?.isLetter == true || text.first?.isNumber == true
        let isSafe = isPlain && isText && text.last != ":" && !["null", "true", "false"].contains(text)
        return isSafe
            ? text : "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }

    /// The listen part without what a reader adds: the address where it is any of the target's, IPv4, and TCP.
    private static func shortest(_ mapping: PortMapping) -> String {
        let listen = mapping.listen
        let isPlain = listen.address == nil && listen.family == .ipv4 && mapping.target.address.family == .ipv4
        let text = isPlain ? "\(listen.ports)/\(listen.transport)" : listen.description
        return listen.transport == .tcp ? String(text.dropLast("/tcp".count)) : text
    }
}
