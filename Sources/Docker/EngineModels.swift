// What the Engine API answers, as far as it matters here.

/// An element of `GET /containers/json`.
struct EngineContainer: Decodable, Sendable {
    /// A port that the container exposes or publishes.
    struct Port: Decodable, Sendable {
        let address: String?
        let containerPort: UInt16
        /// nil, or 0, when it is not published.
        let hostPort: UInt16?
        let transport: String

        enum CodingKeys: String, CodingKey {
            case address = "IP"
            case containerPort = "PrivatePort"
            case hostPort = "PublicPort"
            case transport = "Type"
        }
    }

    /// The container's end in a network.
    struct Endpoint: Decodable, Sendable {
        let networkID: String?
        let gateway: String?
        let address: String?
        let gatewayIPv6: String?
        let addressIPv6: String?
        /// Which network has the container's default route: the highest (Docker 28).
        let gatewayPriority: Int?

        enum CodingKeys: String, CodingKey {
            case networkID = "NetworkID"
            case gateway = "Gateway"
            case address = "IPAddress"
            case gatewayIPv6 = "IPv6Gateway"
            case addressIPv6 = "GlobalIPv6Address"
            case gatewayPriority = "GwPriority"
        }
    }

    struct NetworkSettings: Decodable, Sendable {
        /// By the network's name.
        let networks: [String: Endpoint]?

        enum CodingKeys: String, CodingKey {
            case networks = "Networks"
        }
    }

    let id: String
    let names: [String]?
    let labels: [String: String]?
    let ports: [Port]?
    let networkSettings: NetworkSettings?

    enum CodingKeys: String, CodingKey {
        case id = "Id"
        case names = "Names"
        case labels = "Labels"
        case ports = "Ports"
        case networkSettings = "NetworkSettings"
    }

    /// Its name as people write it.
    var name: String { (names?.first).map { $0.hasPrefix("/") ? String($0.dropFirst()) : $0 } ?? shortIdentifier(id) }
}

/// An element of `GET /networks`.
struct EngineNetwork: Decodable, Sendable {
    struct AddressManagement: Decodable, Sendable {
        struct Pool: Decodable, Sendable {
            let subnet: String?

            enum CodingKeys: String, CodingKey {
                case subnet = "Subnet"
            }
        }

        let pools: [Pool]?

        enum CodingKeys: String, CodingKey {
            case pools = "Config"
        }
    }

    let id: String
    let name: String
    let driver: String
    let isInternal: Bool?
    let addresses: AddressManagement?
    let options: [String: String]?

    enum CodingKeys: String, CodingKey {
        case id = "Id"
        case name = "Name"
        case driver = "Driver"
        case isInternal = "Internal"
        case addresses = "IPAM"
        case options = "Options"
    }
}

/// A line of `GET /events`.
struct EngineEvent: Decodable, Sendable {
    struct Actor: Decodable, Sendable {
        let id: String?

        enum CodingKeys: String, CodingKey {
            case id = "ID"
        }
    }

    let type: String?
    let action: String?
    let actor: Actor?

    enum CodingKeys: String, CodingKey {
        case type = "Type"
        case action = "Action"
        case actor = "Actor"
    }
}

/// An identifier as Docker prints it.
func shortIdentifier(_ id: String) -> String { String(id.prefix(12)) }
