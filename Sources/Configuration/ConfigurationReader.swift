internal import Addresses
internal import FastNAT
internal import Yams

extension Configuration {
    /// Reads the text of a file.
    ///
    /// - Parameter file: its name, for errors.
    /// - Throws: everything that is wrong with it.
    public init(parsing text: String, file: String) throws(ConfigurationError) {
        var reader = YAMLReader(file: file)
        self.init(file: file)
        if let root = try reader.document(text),
            let sections = reader.fields(of: root, Section.allCases.map(\.rawValue))
        {
            let mode = sections["mode"].flatMap { reader.choice($0.value, of: HookMode.self) } ?? .auto
            for section in Section.allCases {
                guard let field = sections[section.rawValue] else { continue }
                read(section, field.value, mode, &reader)
            }
            if sections["mode"] != nil, sections["uplinks"] == nil, let key = sections["mode"]?.key {
                reader.refuse(key, "mode belongs to uplinks: name them too")
            }
        }
        guard reader.problems.isEmpty else { throw ConfigurationError(file, reader.problems) }
    }

    /// The keys of a file.
    private enum Section: String, CaseIterable {
        case uplinks
        case `internal`
        case mode
        case attach
        case maxFlows = "max-flows"
        case timeouts
        case mappings
        case masquerade
    }

    private mutating func read(_ section: Section, _ node: Node, _ mode: HookMode, _ reader: inout YAMLReader) {
        switch section {
        case .uplinks:
            state.uplinks = reader.items(of: node).compactMap { uplink($0, mode, &reader) }
        case .internal:
            state.containers = reader.items(of: node).compactMap { interface($0, &reader) }
        case .mode: break
        case .attach: state.attachment = reader.choice(node, of: TCAttachment.self) ?? .auto
        case .maxFlows:
            state.maximumFlows = reader.number(node, "a number of flows").map(Int.init)
            note(.maximumFlows, at: Position(node))
        case .timeouts: state.timeouts = timeouts(node, &reader)
        case .mappings:
            let mappings = reader.items(of: node).compactMap { item in mapping(item, &reader).map { (item, $0) } }
            refuseOverlaps(mappings, &reader)
            state.mappings = mappings.map(\.1)
        case .masquerade:
            state.masquerades = reader.items(of: node).compactMap { item in masquerade(item, &reader) }
        }
    }

    // MARK: Interfaces

    private mutating func uplink(_ node: Node, _ mode: HookMode, _ reader: inout YAMLReader) -> DesiredState.Uplink? {
        guard node.mapping != nil else { return interface(node, &reader).map { .init($0, mode: mode) } }
        guard let fields = reader.fields(of: node, ["interface", "mode"]) else { return nil }
        guard let field = fields["interface"] else {
            reader.refuse(node, "say which interface: interface: eth0")
            return nil
        }
        let own = fields["mode"].flatMap { reader.choice($0.value, of: HookMode.self) }
        return interface(field.value, &reader).map { .init($0, mode: own ?? mode) }
    }

    private mutating func interface(_ node: Node, _ reader: inout YAMLReader) -> String? {
        guard let name = reader.text(node, "the name of an interface") else { return nil }
        if position(of: .interface(name)) != nil {
            reader.refuse(node, "the interface \(name) is named twice: keep one")
        }
        note(.interface(name), at: Position(node))
        return name
    }

    // MARK: Timeouts

    private func timeouts(_ node: Node, _ reader: inout YAMLReader) -> Timeouts? {
        var timeouts = Timeouts()
        let all = Self.timeoutNames.map(\.0)
        guard let fields = reader.fields(of: node, all) else { return nil }
        for (name, path) in Self.timeoutNames {
            guard let value = fields[name]?.value, let seconds = reader.number(value, "a number of seconds") else {
                continue
            }
            var alone = Timeouts()
            alone[keyPath: path] = seconds
            do throws(FastNATError) {
                _ = try alone.validated()
                timeouts[keyPath: path] = seconds
            } catch {
                reader.refuse(value, error.description)
            }
        }
        return timeouts
    }

    static var timeoutNames: [(String, WritableKeyPath<Timeouts, UInt32>)] {
        [
            ("tcp-half-open", \.tcpHalfOpen), ("tcp-open", \.tcpOpen), ("tcp-closing", \.tcpClosing), ("udp", \.udp),
            ("icmp", \.icmp),
        ]
    }

    // MARK: Mappings

    private mutating func mapping(_ node: Node, _ reader: inout YAMLReader) -> DesiredState.Mapping? {
        guard
            let fields = reader.fields(
                of: node, ["listen", "target", "allow", "force"] + FlowLimit.allCases.map(\.rawValue))
        else { return nil }
        guard let listenField = fields["listen"], let targetField = fields["target"] else {
            reader.refuse(node, "a mapping has a listen and a target")
            return nil
        }
        let listen = value(listenField.value, "[HOSTIP:]PORT[-END][/tcp|/udp|/sctp]", &reader) {
            text throws(MappingError) in
            try Listen(parsing: text)
        }
        let target = value(targetField.value, "IP:PORT[-END]", &reader) { text throws(MappingError) in
            try Target(parsing: text)
        }
        let allow = fields["allow"].map { field in networks(field.value, &reader) } ?? []
        let force = fields["force"].flatMap { reader.flag($0.value) } ?? false
        let limits = limits(fields.mapValues(\.value), &reader)
        guard let listen, let target else { return nil }
        let mapping = checked(node, &reader) { () throws(MappingError) in
            try PortMapping(listen: listen, target: target, allow: allow, limits: limits)
        }
        if let mapping { note(.mapping(mapping), at: Position(node)) }
        return mapping.map { .init($0, force: force) }
    }

    func limits(_ values: [String: Node], _ reader: inout YAMLReader) -> FlowLimits {
        var limits = FlowLimits()
        for limit in FlowLimit.allCases {
            guard let node = values[limit.rawValue], let text = reader.text(node, "a limit like 100 or 10/s") else {
                continue
            }
            do throws(MappingError) {
                try limits.set(limit, to: text)
            } catch {
                reader.refuse(node, error.description)
            }
        }
        return limits
    }

    private func refuseOverlaps(_ mappings: [(Node, DesiredState.Mapping)], _ reader: inout YAMLReader) {
        let sorted = mappings.map { ($0.0, $0.1.mapping) }.sorted { $0.1.listen.ports.first < $1.1.listen.ports.first }
        for (index, (node, mapping)) in sorted.enumerated() {
            for (other, later) in sorted[(index + 1)...].prefix(while: {
                $0.1.listen.ports.first <= mapping.listen.ports.last
            }) where mapping.overlaps(later) {
                let place = Position(node).map { "at \($0)" } ?? "of this file"
                reader.refuse(
                    other, "\(later.listen) overlaps \(mapping.listen) \(place): remove one or change its ports")
            }
        }
    }

    private func networks(_ node: Node, _ reader: inout YAMLReader) -> [IPPrefix] {
        let items = reader.items(of: node)
        if items.isEmpty, node.sequence != nil {
            reader.refuse(node, "nobody may connect: name a network, or leave allow out for everybody")
        }
        return items.compactMap { network($0, &reader) }
    }

    func network(_ node: Node, _ reader: inout YAMLReader) -> IPPrefix? {
        value(node, "a network like 192.0.2.0/24", &reader) { text throws(AddressError) in try IPPrefix(parsing: text) }
    }

    /// A value of a kind that is written as text.
    func value<Value, Problem: Error & CustomStringConvertible>(
        _ node: Node, _ what: String, _ reader: inout YAMLReader, _ parse: (String) throws(Problem) -> Value
    ) -> Value? {
        guard let text = reader.text(node, what) else { return nil }
        return checked(node, &reader) { () throws(Problem) in try parse(text) }
    }

    /// A value that may be impossible, which is then said of the node.
    func checked<Value, Problem: Error & CustomStringConvertible>(
        _ node: Node, _ reader: inout YAMLReader, _ make: () throws(Problem) -> Value
    ) -> Value? {
        do throws(Problem) {
            return try make()
        } catch {
            reader.refuse(node, error.description)
            return nil
        }
    }
}
