internal import Addresses
internal import FastNAT

/// What the labels of a container say to fastnat.
struct ContainerLabels: Hashable, Sendable {
    /// Whether its ports are published at all.
    var isEnabled = true
    /// The networks that may connect; nil: everybody.
    var allow: [IPPrefix]?
    /// How many flows each of its mappings may have.
    var limits = FlowLimits()

    private static let prefix = "fastnat."

    /// Reads labels; those of others are not looked at.
    ///
    /// - Throws: for a label of fastnat's that it does not know or understand. A port whose restriction is not understood must not
    ///   be open instead.
    init(_ labels: [String: String]) throws(LabelError) {
        for (label, text) in labels.sorted(by: { $0.key < $1.key }) where label.hasPrefix(Self.prefix) {
            switch label.dropFirst(Self.prefix.count) {
            case "enable": isEnabled = try Self.flag(text, of: label)
            case "allow": allow = try Self.networks(text, of: label)
            case let name:
                guard let limit = FlowLimit(rawValue: String(name)) else { throw .unknown(label) }
                do throws(MappingError) {
                    try limits.set(limit, to: text)
                } catch {
                    throw .wrong(label, text, problem: error.description)
                }
            }
        }
    }

    private static func flag(_ text: String, of label: String) throws(LabelError) -> Bool {
        switch text.lowercased() {
        case "true", "1": return true
        case "false", "0": return false
        default: throw .wrong(label, text, problem: "write true or false")
        }
    }

    private static func networks(_ text: String, of label: String) throws(LabelError) -> [IPPrefix] {
        var networks: [IPPrefix] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            do throws(AddressError) {
                networks.append(try IPPrefix(parsing: String(part.trimming(while: { $0 == " " }))))
            } catch {
                throw .wrong(label, text, problem: error.description)
            }
        }
        return networks
    }
}

extension Substring {
    fileprivate func trimming(while isBlank: (Character) -> Bool) -> Substring {
        let tail = drop(while: isBlank)
        return tail[..<(tail.lastIndex { !isBlank($0) }.map(tail.index(after:)) ?? tail.startIndex)]
    }
}

/// What is wrong with a label.
enum LabelError: Error, Hashable {
    case unknown(String)
    case wrong(String, String, problem: String)
}

extension LabelError: CustomStringConvertible {
    var description: String {
        switch self {
        case .unknown(let label):
            "there is no label \(label): fastnat knows "
                + (["enable", "allow"] + FlowLimit.allCases.map(\.rawValue)).map { "fastnat.\($0)" }
                .joined(separator: ", ")
        case .wrong(let label, let text, let problem):
            "the label \(label)=\(text) is not understood: \(problem)"
        }
    }
}
