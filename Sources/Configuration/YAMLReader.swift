internal import Yams

/// Takes a YAML text apart, and collects what is wrong with it. What is wrong is nil in the result, which is then not used.
struct YAMLReader {
    let file: String
    private(set) var problems: [ConfigurationError.Problem] = []

    init(file: String) { self.file = file }

    /// The value of a key, and the key.
    struct Field {
        let key: Node
        let value: Node
    }

    /// The one document of a text; nil when there is nothing in it.
    func document(_ text: String) throws(ConfigurationError) -> Node? {
        do {
            let node = try Yams.compose(yaml: text)
            return node.flatMap { $0.isNothing ? nil : $0 }
        } catch let error as YamlError {
            throw ConfigurationError(file, [problem(error)])
        } catch {
            throw ConfigurationError(file, [.init(nil, "\(error)")])
        }
    }

    private func problem(_ error: YamlError) -> ConfigurationError.Problem {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            .init(Position(mark), "this is not YAML: \(problem)")
        case .reader(let problem, _, _, _): .init(nil, "this is not YAML: \(problem)")
        case .duplicatedKeysInMapping(let names, let context):
            .init(Position(context.mark), "\(names.sorted().joined(separator: ", ")) is there twice below: keep one")
        default: .init(nil, "\(error)")
        }
    }

    /// Notes that something is wrong.
    mutating func refuse(_ node: Node, _ text: String) {
        problems.append(.init(Position(node), text))
    }

    /// The fields of a mapping, by key. A key that is not one of `known` is refused, with the one that was probably meant.
    mutating func fields(of node: Node, _ known: [String]) -> [String: Field]? {
        guard let mapping = node.mapping else {
            refuse(node, "write keys and values here: \(known.map { "\($0):" }.joined(separator: ", "))")
            return nil
        }
        var fields: [String: Field] = [:]
        for (key, value) in mapping {
            let name = key.scalar?.string ?? ""
            if known.contains(name) {
                fields[name] = Field(key: key, value: value)
            } else {
                let nearest = known.min { $0.strangeness(of: name) < $1.strangeness(of: name) } ?? ""
                refuse(key, "there is no key \(name.debugDescription): did you mean \(nearest)?")
            }
        }
        return fields
    }

    /// The items of a list; nothing is an empty list.
    mutating func items(of node: Node) -> [Node] {
        if let sequence = node.sequence { return Array(sequence) }
        if !node.isNothing {
            refuse(node, "write a list here: a line that begins with \"- \" for each item, or [] for none")
        }
        return []
    }

    /// A single value as it stands in the file.
    mutating func text(_ node: Node, _ what: String) -> String? {
        guard let scalar = node.scalar, !node.isNothing else {
            refuse(node, "write \(what) here")
            return nil
        }
        return scalar.string
    }

    /// A whole number from 0 to 4294967295.
    mutating func number(_ node: Node, _ what: String) -> UInt32? {
        guard let text = text(node, what) else { return nil }
        guard let number = UInt32(text) else {
            refuse(node, "\(text.debugDescription) is not \(what): write a whole number")
            return nil
        }
        return number
    }

    /// `true` or `false`.
    mutating func flag(_ node: Node) -> Bool? {
        guard let text = text(node, "true or false") else { return nil }
        guard let flag = Bool(text) else {
            refuse(node, "\(text.debugDescription) is not true or false")
            return nil
        }
        return flag
    }

    /// One of the words of an enumeration.
    mutating func choice<Choice: RawRepresentable<String> & CaseIterable>(_ node: Node, of: Choice.Type) -> Choice? {
        let words = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        guard let text = text(node, "one of \(words)") else { return nil }
        guard let choice = Choice(rawValue: text) else {
            refuse(node, "\(text.debugDescription) is none of \(words)")
            return nil
        }
        return choice
    }
}

extension Node {
    /// Whether nothing, or null, is written.
    fileprivate var isNothing: Bool {
        scalar.map { $0.style == .plain && ["", "~", "null"].contains($0.string) } ?? false
    }
}

extension Position {
    init(_ mark: Mark) { self.init(line: mark.line, column: mark.column) }

    /// Where a node begins.
    init?(_ node: Node) {
        guard let mark = node.mark else { return nil }
        self.init(mark)
    }
}

extension String {
    /// How far a text is from being this one, or the beginning of it.
    fileprivate func strangeness(of text: String) -> Int { hasPrefix(text) && !text.isEmpty ? 0 : distance(to: text) }

    /// How many characters must be inserted, removed or replaced to come from one to the other (Levenshtein).
    fileprivate func distance(to other: String) -> Int {
        let other = Array(other)
        var row = Array(0...other.count)
        for (index, character) in enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in other.indices {
                let changed = diagonal + (character == other[column] ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = Swift.min(changed, diagonal + 1, row[column] + 1)
            }
        }
        return row[other.count]
    }
}
