internal import Addresses
public import FastNAT

extension Configuration {
    /// The text of a file that describes a state; `Configuration(parsing:)` reads it back.
    ///
    /// - Parameter others: mappings that are not the file's, listed in a comment.
    public static func text(_ state: DesiredState, others: [InstalledMapping] = []) -> String {
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
        lines += others.map { "# of \($0.owner?.text ?? "nobody"): \($0.mapping)" }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func fields(_ entry: DesiredState.Mapping) -> [String] {
        let mapping = entry.mapping
        var fields = ["listen: \(scalar(shortest(mapping)))", "target: \(scalar(mapping.target.description))"]
        if !mapping.allow.isEmpty {
            fields.append("allow: [\(mapping.allow.map { scalar($0.description) }.joined(separator: ", "))]")
        }
        for limit in FlowLimit.allCases {
            if let text = mapping.limits.text(limit) { fields.append("\(limit.rawValue): \(text)") }
        }
        if entry.force { fields.append("force: true") }
        return fields
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
        let text = isPlain ? listen.ports.description : String(listen.description.dropLast(4))
        return listen.transport == .tcp ? text : "\(text)/\(listen.transport)"
    }
}
