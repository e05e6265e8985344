internal import FoundationEssentials

/// A value of JSON, as `nft -j` writes them.
indirect enum NftValue: Decodable, Hashable {
    case none
    case flag(Bool)
    case number(Int)
    case text(String)
    case list([NftValue])
    case object([String: NftValue])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .none
        } else if let value = try? container.decode(Bool.self) {
            self = .flag(value)
        } else if let value = try? container.decode(Int.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .text(value)
        } else if let value = try? container.decode([NftValue].self) {
            self = .list(value)
        } else {
            self = .object(try container.decode([String: NftValue].self))
        }
    }

    /// The value of a key of an object.
    subscript(_ key: String) -> NftValue? {
        if case .object(let fields) = self { fields[key] } else { nil }
    }

    var text: String? {
        if case .text(let text) = self { text } else { nil }
    }

    var number: Int? {
        if case .number(let number) = self { number } else { nil }
    }

    var list: [NftValue]? {
        if case .list(let list) = self { list } else { nil }
    }

    /// The name and value of an object that has one field, as expressions and statements do.
    var only: (name: String, value: NftValue)? {
        guard case .object(let fields) = self, fields.count == 1, let first = fields.first else { return nil }
        return (first.key, first.value)
    }

    /// As nft writes it without `-j`, or nearly so.
    var description: String {
        switch self {
        case .none: return ""
        case .flag(let flag): return "\(flag)"
        case .number(let number): return "\(number)"
        case .text(let text): return text
        case .list(let list): return list.map(\.description).joined(separator: ",")
        case .object(let fields):
            guard let (name, value) = only else {
                return fields.sorted { $0.key < $1.key }.map { "\($0) \($1.description)" }.joined(separator: " ")
            }
            return Self.describe(name, value)
        }
    }

    private static func describe(_ name: String, _ value: NftValue) -> String {
        func part(_ key: String) -> String { value[key]?.description ?? "" }
        func words(_ parts: String...) -> String { parts.filter { !$0.isEmpty }.joined(separator: " ") }
        switch name {
        case "match":
            let sign = part("op")
            let isPlain = ["==", "in"].contains(sign) && value["left"]?["&"] == nil
            return words(part("left"), isPlain ? "" : sign, part("right"))
        case "meta":
            return ["iif", "oif", "iifname", "oifname"].contains(part("key")) ? part("key") : "meta \(part("key"))"
        case "payload": return words(part("protocol"), part("field"))
        case "ct": return words("ct", part("key"))
        case "fib": return words("fib", part("flags"), part("result"))
        case "prefix": return "\(part("addr"))/\(part("len"))"
        case "range": return (value.list ?? []).map(\.description).joined(separator: "-")
        case "set": return "{ \((value.list ?? [value]).map(element).joined(separator: ", ")) }"
        case "concat": return (value.list ?? []).map(\.description).joined(separator: " . ")
        case "&", "|", "^": return (value.list ?? []).map(\.description).joined(separator: " \(name) ")
        case "map", "vmap": return words(part("key"), name, part("data"))
        case "jump", "goto": return words(name, part("target"))
        case "dnat", "snat", "masquerade", "redirect":
            let address = part("addr").contains(":") ? "[\(part("addr"))]" : part("addr")
            let place = address + (part("port").isEmpty ? "" : ":\(part("port"))")
            return words(name, part("family"), place.isEmpty ? "" : "to \(place)", part("flags"))
        case "xt": return words("xt", part("type"), part("name"))
        case "counter": return name
        default: return words(name, value.description)
        }
    }

    private static func element(_ value: NftValue) -> String {
        guard let pair = value.list, pair.count == 2 else { return value.description }
        return "\(pair[0].description) : \(pair[1].description)"
    }
}
