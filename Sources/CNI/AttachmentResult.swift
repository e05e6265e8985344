internal import Addresses

/// What ADD has made, as plugins hand it on: interfaces, addresses, routes, name servers.
struct AttachmentResult {
    /// The result in the version that was asked for.
    let value: JSONValue

    /// Reads a result, and makes one of `version` of it.
    init(_ value: JSONValue, in version: SpecificationVersion) throws(CNIError) {
        guard case .object(var members) = value else {
            throw CNIError(.invalidConfiguration, "prevResult is not an object")
        }
        let own = try value["cniVersion"]?.string.map { text throws(CNIError) in try SpecificationVersion(named: text) }
        if let own, own != version { Self.convert(&members, from: own, to: version) }
        members["cniVersion"] = .string(version.rawValue)
        self.value = .object(members)
    }

    /// An address of an interface in the container, and the network that it is in.
    struct Address {
        let address: IPAddress
        let network: IPPrefix
    }

    /// The container's addresses on this interface, the first of each family. One that is on no interface in particular counts.
    func addresses(on interface: String) throws(CNIError) -> [Address] {
        let interfaces = value["interfaces"]?.array ?? []
        var found: [IPFamily: Address] = [:]
        for entry in value["ips"]?.array ?? [] {
            if let index = entry["interface"]?.integer, interfaces.indices.contains(index) {
                let owner = interfaces[index]
                guard owner["name"]?.string == interface, owner["sandbox"]?.string?.isEmpty == false else { continue }
            }
            let address = try Self.address(entry["address"]?.string ?? "")
            if address.address.family == .ipv6 && address.address.isLinkLocal { continue }
            if found[address.address.family] == nil { found[address.address.family] = address }
        }
        return IPFamily.allCases.compactMap { found[$0] }
    }

    private static func address(_ text: String) throws(CNIError) -> Address {
        let parts = text.split(separator: "/", maxSplits: 1)
        do throws(AddressError) {
            let address = try IPAddress(parsing: String(parts.first ?? ""))
            let length = parts.count == 2 ? Int(parts[1]) ?? -1 : address.family.bitWidth
            return Address(address: address, network: try IPPrefix(around: address, length: length))
        } catch {
            throw CNIError(.invalidConfiguration, "prevResult has the address \(text.debugDescription): \(error)")
        }
    }
}

// MARK: - Versions

extension AttachmentResult {
    /// What 1.1.0 brought, and earlier versions do not know.
    private static let newInInterfaces = ["mtu", "socketPath", "pciID"]
    private static let newInRoutes = ["mtu", "advmss", "priority", "table", "scope"]

    /// Until 0.4.0 addresses have a `version`, which is that of the Internet Protocol; 1.1.0 knows more of interfaces and routes.
    private static func convert(
        _ members: inout [String: JSONValue], from old: SpecificationVersion, to new: SpecificationVersion
    ) {
        if new >= .v1_0_0 {
            change("ips", in: &members) { $0["version"] = nil }
        } else if old >= .v1_0_0 {
            change("ips", in: &members) { address in
                let isIPv6 = address["address"]?.string?.contains(":") == true
                address["version"] = .string(isIPv6 ? "6" : "4")
            }
        }
        if new < .v1_1_0 {
            change("interfaces", in: &members) { interface in newInInterfaces.forEach { interface[$0] = nil } }
            change("routes", in: &members) { route in newInRoutes.forEach { route[$0] = nil } }
        }
    }

    private static func change(
        _ key: String, in members: inout [String: JSONValue], _ body: (inout [String: JSONValue]) -> Void
    ) {
        guard case .array(let elements)? = members[key] else { return }
        members[key] = .array(
            elements.map { element in
                guard case .object(var object) = element else { return element }
                body(&object)
                return .object(object)
            })
    }
}
