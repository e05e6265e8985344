/// A line `-A CHAIN …` of iptables-save, taken apart.
struct IptablesRule {
    /// A table as one `*name` … `COMMIT` has it; iptables-save and ip6tables-save write one each.
    struct Table: Hashable {
        let name: String
        /// Counts them, because both may be in one text.
        let number: Int
    }

    let line: Int
    let text: String
    let table: Table
    let chain: String
    let condition: PacketCondition
    /// What `-j` or `-g` names; nil for a rule that only counts.
    let target: String?
    /// What follows the target.
    let options: [String]

    init?(_ text: String, line: Int, table: Table, containerSides: Set<String>) {
        let words = Self.words(of: text)
        guard words.count >= 2, words[0] == "-A" else { return nil }
        let jump = words.firstIndex { $0 == "-j" || $0 == "-g" }
        let matches = Array(words[2..<(jump ?? words.count)])
        self.line = line
        self.text = text
        self.table = table
        chain = words[1]
        condition = PacketCondition(matches: matches, containerSides: containerSides)
        target = jump.flatMap { $0 + 1 < words.count ? words[$0 + 1] : nil }
        options = jump.map { Array(words.dropFirst($0 + 2)) } ?? []
    }

    /// The value of an option of the target.
    func option(_ name: String) -> String? {
        options.firstIndex(of: name).flatMap { $0 + 1 < options.count ? options[$0 + 1] : nil }
    }

    /// Words between blanks; quotes hold words together, a backslash takes the next character as it is.
    static func words(of text: String) -> [String] {
        var words: [String] = []
        var word: String?
        var (isQuoted, isEscaped) = (false, false)
        for character in text {
            switch character {
            case _ where isEscaped:
                word = (word ?? "") + String(character)
                isEscaped = false
            case "\\": isEscaped = true
            case "\"":
                isQuoted.toggle()
                word = word ?? ""
            case " " where !isQuoted, "\t" where !isQuoted:
                if let finished = word { words.append(finished) }
                word = nil
            default: word = (word ?? "") + String(character)
            }
        }
        if let word { words.append(word) }
        return words
    }
}

/// The rules of iptables-save, in order, by table and chain.
struct IptablesRules {
    private(set) var rules: [IptablesRule] = []
    /// The tables, in order.
    private(set) var tables: [IptablesRule.Table] = []
    private var chains: [Chain: [Int]] = [:]
    /// Interfaces that containers are behind.
    let containerSides: Set<String>

    init(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map {
            Self.withoutCounters($0).trimmed
        }
        let sides = Self.containerSides(lines)
        containerSides = sides
        var table = IptablesRule.Table(name: "", number: 0)
        for (index, line) in lines.enumerated() {
            if line.hasPrefix("*") {
                table = IptablesRule.Table(name: String(line.dropFirst()), number: tables.count)
                tables.append(table)
            } else if let rule = IptablesRule(line, line: index + 1, table: table, containerSides: sides) {
                chains[Chain(table: table, name: rule.chain), default: []].append(rules.count)
                rules.append(rule)
            }
        }
    }

    private struct Chain: Hashable {
        let table: IptablesRule.Table
        let name: String
    }

    /// The rules of a chain.
    func chain(_ name: String, in table: IptablesRule.Table) -> [IptablesRule] {
        (chains[Chain(table: table, name: name)] ?? []).map { rules[$0] }
    }

    /// What container managers masquerade is behind these: `-s NETWORK ! -o INTERFACE -j MASQUERADE`. Docker names each of its
    /// bridges so; the loopback is no way from outside either.
    private static func containerSides(_ lines: [String]) -> Set<String> {
        var sides: Set<String> = ["lo"]
        for line in lines where line.hasPrefix("-A POSTROUTING ") && line.hasSuffix(" -j MASQUERADE") {
            let words = IptablesRule.words(of: line)
            guard let option = words.firstIndex(of: "-o"), option > 0, option + 1 < words.count,
                words[option - 1] == "!"
            else { continue }
            sides.insert(words[option + 1])
        }
        return sides
    }

    /// iptables-save -c writes `[packets:bytes]` before each rule.
    private static func withoutCounters(_ line: Substring) -> String {
        guard line.hasPrefix("["), let end = line.firstIndex(of: "]") else { return String(line) }
        return String(line[line.index(after: end)...])
    }
}

extension String {
    /// Without blanks and line ends around it.
    var trimmed: String {
        var text = self[...]
        while text.first?.isWhitespace == true { text = text.dropFirst() }
        while text.last?.isWhitespace == true { text = text.dropLast() }
        return String(text)
    }
}
