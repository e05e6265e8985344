internal import Addresses
internal import FastNAT

/// The members of an object in the network configuration, read by type. An error names the key and the value, as the
/// specification asks for.
struct Fields {
    private let object: JSONValue
    private let path: String

    /// The members of `object`; `path` names it in errors.
    init(_ object: JSONValue, at path: String = "") {
        self.object = object
        self.path = path
    }

    func string(_ key: String) throws(CNIError) -> String? { try value(key, "a text") { $0.string } }

    func bool(_ key: String) throws(CNIError) -> Bool? { try value(key, "true or false") { $0.bool } }

    func integer(_ key: String) throws(CNIError) -> Int? { try value(key, "a whole number") { $0.integer } }

    func strings(_ key: String) throws(CNIError) -> [String]? {
        try value(key, "an array of texts") { value in
            let strings = value.array?.map(\.string)
            return strings?.contains(nil) == true ? nil : strings?.compactMap(\.self)
        }
    }

    /// The objects of an array.
    func objects(_ key: String) throws(CNIError) -> [Fields]? {
        let array = try value(key, "an array of objects") { value in
            value.array.flatMap { array in array.allSatisfy { $0.object != nil } ? array : nil }
        }
        return array?.enumerated().map { Fields($1, at: "\(path)\(key)[\($0)].") }
    }

    func object(_ key: String) throws(CNIError) -> Fields? {
        try value(key, "an object") { $0.object == nil ? nil : Fields($0, at: "\(path)\(key).") }
    }

    func port(_ key: String) throws(CNIError) -> UInt16 {
        let number = try integer(key) ?? 0
        guard let port = UInt16(exactly: number), port > 0 else {
            throw invalid(key, "\(number)", "a port is from 1 to 65535")
        }
        return port
    }

    func address(_ key: String) throws(CNIError) -> IPAddress? {
        guard let text = try string(key), !text.isEmpty else { return nil }
        do throws(AddressError) {
            return try IPAddress(parsing: text)
        } catch {
            throw invalid(key, text, error.description)
        }
    }

    func prefixes(_ key: String) throws(CNIError) -> [IPPrefix]? {
        try strings(key)?.map { text throws(CNIError) in
            do throws(AddressError) {
                return try IPPrefix(parsing: text)
            } catch {
                throw invalid(key, text, error.description)
            }
        }
    }

    /// Whether a key has a value.
    func has(_ key: String) -> Bool { object[key] != nil }

    /// An error about the value of a key.
    func invalid(_ key: String, _ value: String, _ problem: String) -> CNIError {
        CNIError(.invalidConfiguration, "\(path)\(key) is \(value.debugDescription): \(problem)")
    }

    /// An error about what fastnat does not do.
    func unsupported(_ key: String, _ value: String, _ reason: String) -> CNIError {
        CNIError(.unsupportedField, "\(path)\(key) is \(value.debugDescription), which fastnat does not do: \(reason)")
    }

    private func value<Value>(_ key: String, _ kind: String, _ read: (JSONValue) -> Value?) throws(CNIError) -> Value? {
        guard let value = object[key] else { return nil }
        guard let result = read(value) else { throw invalid(key, try value.text(), "it must be \(kind)") }
        return result
    }
}
