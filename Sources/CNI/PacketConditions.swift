internal import Addresses

/// The arguments of iptables in portmap's `conditionsV4` and `conditionsV6`, as far as a mapping can say them: who may connect,
/// and to which addresses of the host.
struct PacketConditions {
    /// The networks that may connect; empty: all.
    private(set) var allow: [IPPrefix] = []
    /// The addresses of the host; empty: all.
    private(set) var destinations: [IPAddress] = []

    init() {}

    init(_ fields: Fields, _ key: String, _ family: IPFamily) throws(CNIError) {
        let words = try fields.strings(key) ?? []
        var rest = words[...]
        while let word = rest.popFirst() {
            let isNegated = word == "!"
            let option = isNegated ? rest.popFirst() ?? "" : word
            let text = (isNegated ? "! " : "") + ([option] + rest.prefix(1)).joined(separator: " ")
            func refusal(_ reason: String) -> CNIError { fields.unsupported(key, text, reason) }
            guard ["-s", "--source", "--src", "-d", "--destination", "--dst"].contains(option) else {
                throw refusal(Self.alternative(to: option))
            }
            let networks = try Self.networks(rest.popFirst() ?? "", family, fields, key)
            if option.hasPrefix("-s") || option.hasPrefix("--s") {
                guard allow.isEmpty else { throw refusal("-s can stand there once") }
                guard !isNegated || networks.count == 1 else { throw refusal("! -s is for one network") }
                allow = isNegated ? networks[0].complement : networks.filter { $0.length > 0 }
                guard !isNegated || !allow.isEmpty else { throw refusal("nobody could connect") }
            } else {
                guard destinations.isEmpty else { throw refusal("-d can stand there once") }
                if !isNegated, networks.contains(where: { $0.length == 0 }) { continue }
                guard !isNegated, networks.allSatisfy({ $0.length == family.bitWidth }) else {
                    throw refusal("a mapping has one address of the host, or all: name each, -d ADDRESS,ADDRESS")
                }
                destinations = Set(networks.map(\.address)).sorted()
            }
        }
    }

    /// What to write instead of an argument that no mapping can say.
    private static func alternative(to option: String) -> String {
        switch option {
        case "-i", "--in-interface":
            "ports are published on all uplinks, and for the host itself: name the interfaces in \"uplinks\""
        case "-p", "--protocol", "--proto", "--dport", "--dports", "--destination-port", "--destination-ports":
            "the runtime's portMappings say protocols and ports"
        default: "a mapping can say -s NETWORK,…, ! -s NETWORK and -d ADDRESS,…: leave the rest out, or keep portmap"
        }
    }

    private static func networks(_ text: String, _ family: IPFamily, _ fields: Fields, _ key: String) throws(CNIError)
        -> [IPPrefix]
    {
        try text.split(separator: ",", omittingEmptySubsequences: false).map { part throws(CNIError) in
            let network: IPPrefix
            do throws(AddressError) {
                network = try IPPrefix(parsing: String(part))
            } catch {
                throw fields.invalid(key, text, error.description)
            }
            guard network.family == family else { throw fields.invalid(key, text, "it is not \(family)") }
            return network
        }
    }
}
