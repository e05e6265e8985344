import Addresses
import FastNAT
import Testing

@testable import CNI

/// The environment of a command about an attachment.
func environment(_ command: String, _ changes: [String: String?] = [:]) -> [String: String] {
    var environment: [String: String?] = [
        "CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/proc/self/ns/net",
    ]
    for (name, value) in changes { environment[name] = value }
    return environment.compactMapValues(\.self)
}

/// What the plugin answers, and its error's code.
func respond(_ environment: [String: String], _ input: String) throws -> (value: JSONValue?, code: Int?) {
    let response = Plugin.respond(environment: environment, input: { Array(input.utf8) }, note: { _ in })
    let value = response.output.isEmpty ? nil : try JSONValue(parsing: Array(response.output.utf8))
    #expect(response.succeeded == (value?["code"] == nil))
    return (value, value?["code"]?.integer)
}

/// The value of a text.
func json(_ text: String) throws -> JSONValue { try JSONValue(parsing: Array(text.utf8)) }

/// A network configuration of this version with these further members.
func configuration(_ version: String, _ members: String = "") -> String {
    #"{"cniVersion": "\#(version)", "name": "net", "type": "fastnat-cni"\#(members.isEmpty ? "" : ", ")\#(members)}"#
}

/// What a configuration with these members publishes of a container with these addresses.
func published(_ members: String, of addresses: [String] = ["10.1.0.2", "fd00::2"]) throws -> [String] {
    let read = try NetworkConfiguration(json(configuration("1.0.0", members)))
    let publication = try Publication(read.ports(), of: addresses.map { try IPAddress(parsing: $0) }, read.options())
    return publication.mappings.map(\.description)
}

/// The code of the error that `body` throws.
func code(_ body: () throws -> Void) -> CNIError.Code? {
    do {
        try body()
        return nil
    } catch {
        return (error as? CNIError)?.code
    }
}
