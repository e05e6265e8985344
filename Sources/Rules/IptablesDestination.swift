internal import Addresses
internal import FastNAT

/// Why a rule is no mapping, or no masquerade.
struct NotAMapping: Error {
    let reason: String

    init(_ reason: String) { self.reason = reason }

    /// Runs `make`; what is wrong with the value is the reason.
    static func translating<Value, Problem: Error & CustomStringConvertible>(_ make: () throws(Problem) -> Value)
        throws(NotAMapping) -> Value
    {
        do throws(Problem) {
            return try make()
        } catch {
            throw NotAMapping(error.description)
        }
    }
}

/// What `--to-destination` or `--to-source` says: `IP`, `IP:PORT`, `IP:FIRST-LAST[/BASE]`; IPv6 in brackets where there is a port.
struct IptablesDestination {
    let address: IPAddress
    /// nil: ports stay as they are.
    let ports: PortRange?
    /// The published port that the first of `ports` is for.
    private let base: UInt16?

    init(_ text: String) throws(NotAMapping) {
        let (host, rest) = Self.split(text)
        guard let address = try? IPAddress(parsing: host) else {
            throw NotAMapping("it leads to \(host), which is not one address")
        }
        self.address = address
        let parts = rest.split(separator: "/")
        base = parts.count > 1 ? UInt16(parts[1]) : nil
        guard let first = parts.first else {
            ports = nil
            return
        }
        guard let ports = try? PortRange(parsing: String(first)) else {
            throw NotAMapping("it leads to \(first), which is no port")
        }
        self.ports = ports
    }

    private static func split(_ text: String) -> (host: String, rest: String) {
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            return (String(text[text.index(after: text.startIndex)..<end]), String(text[end...].dropFirst(2)))
        }
        guard text.filter({ $0 == ":" }).count == 1, let colon = text.firstIndex(of: ":") else { return (text, "") }
        return (String(text[..<colon]), String(text[colon...].dropFirst()))
    }

    /// Where packets to these ports go.
    func target(for listen: PortRange) throws(NotAMapping) -> Target {
        let ports = try targetPorts(for: listen)
        return try NotAMapping.translating { () throws(MappingError) in try Target(address: address, ports: ports) }
    }

    private func targetPorts(for listen: PortRange) throws(NotAMapping) -> PortRange {
        guard let ports, ports != listen else { return listen }
        if ports.count == 1 { return ports }
        guard base == listen.first, ports.count == listen.count else {
            throw NotAMapping("the kernel picks one of the ports \(ports); a mapping leads each port to its own")
        }
        return ports
    }
}
