/// What a runtime can ask a plugin for: `CNI_COMMAND`.
public enum Command: String, Sendable, CaseIterable {
    case add = "ADD"
    case del = "DEL"
    case check = "CHECK"
    case gc = "GC"
    case status = "STATUS"
    case version = "VERSION"

    /// The version of the specification that brought it.
    var since: SpecificationVersion {
        switch self {
        case .add, .del, .version: .v0_3_0
        case .check: .v0_4_0
        case .gc, .status: .v1_1_0
        }
    }
}

/// A container's interface in a network: what ADD makes and DEL takes away.
public struct NetworkAttachment: Sendable, Hashable {
    /// The runtime's name of the container.
    public let container: String
    /// The name of the interface in the container.
    public let interface: String

    /// An attachment whose names have the form that the specification asks for; nil for others.
    init?(container: String, interface: String) {
        guard isIdentifier(container), isInterfaceName(interface) else { return nil }
        self.container = container
        self.interface = interface
    }
}

/// Whether a text can name a container or network: letters, digits, `_`, `.`, `-`, and a letter or digit first.
func isIdentifier(_ text: String) -> Bool {
    func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
    guard let first = text.utf8.first, isAlphanumeric(first) else { return false }
    return text.utf8.allSatisfy { isAlphanumeric($0) || "_.-".utf8.contains($0) }
}

/// Whether Linux takes the text as the name of an interface.
private func isInterfaceName(_ text: String) -> Bool {
    !text.isEmpty && text != "." && text != ".." && text.utf8.count < 16
        && text.utf8.allSatisfy { $0 > UInt8(ascii: " ") && $0 != 0x7f && !"/:".utf8.contains($0) }
}

/// What a runtime calls the plugin with, beside the network configuration on standard input.
public struct Invocation: Sendable {
    /// What is to be done.
    public let command: Command
    /// To what; nil for the commands that are about the network as a whole.
    public let attachment: NetworkAttachment?
    /// Where the container's network namespace is, as far as the runtime says.
    public let namespace: String?

    /// Reads the `CNI_…` variables of an environment.
    public init(environment: [String: String]) throws(CNIError) {
        func value(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        guard let name = value("CNI_COMMAND") else {
            throw CNIError(
                .invalidEnvironment, "CNI_COMMAND is not set: container runtimes run this program; see fastnat --help")
        }
        guard let command = Command(rawValue: name) else {
            let known = Command.allCases.map(\.rawValue).joined(separator: ", ")
            throw CNIError(.invalidEnvironment, "CNI_COMMAND is \(name.debugDescription): it must be one of \(known)")
        }
        self.command = command
        namespace = value("CNI_NETNS")
        guard [.add, .del, .check].contains(command) else {
            attachment = nil
            return
        }
        let needed = ["CNI_CONTAINERID", "CNI_IFNAME"] + (command == .del ? [] : ["CNI_NETNS"])
        let missing = needed.filter { value($0) == nil }
        guard missing.isEmpty else {
            throw CNIError(.invalidEnvironment, "\(missing.joined(separator: " and ")) must be set for \(name)")
        }
        let (container, interface) = (value("CNI_CONTAINERID") ?? "", value("CNI_IFNAME") ?? "")
        guard let attachment = NetworkAttachment(container: container, interface: interface) else {
            throw CNIError(
                .invalidEnvironment,
                "CNI_CONTAINERID=\(container.debugDescription) or CNI_IFNAME=\(interface.debugDescription) has "
                    + "characters that such a name cannot have")
        }
        self.attachment = attachment
    }
}
