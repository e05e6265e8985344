import FastNATTesting

/// Who sends or gets a packet of a random sequence: few, so that they meet again and again.
enum Party: String, CaseIterable {
    case client, farClient, stranger, target, otherTarget, host, otherHost, gateway, linkLocal, martian

    func address(_ family: Family) -> Packet.Address { Self.addresses[Key(party: self, family: family)] ?? family.any }

    /// Those whose packets come from the containers' side.
    static let containers = Set(
        [target, otherTarget, gateway].flatMap { party in Family.allCases.map { party.address($0) } })

    private struct Key: Hashable {
        let party: Party
        let family: Family
    }

    /// Parsed once.
    private static let addresses = Dictionary(
        uniqueKeysWithValues: allCases.flatMap { party in
            Family.allCases.map { (Key(party: party, family: $0), party.parsedAddress($0)) }
        })

    private func parsedAddress(_ family: Family) -> Packet.Address {
        switch self {
        case .client: family.client
        case .farClient: family.farClient
        case .stranger: family.stranger
        case .target: family.target
        case .otherTarget: family.otherTarget
        case .host: family.host
        case .otherHost: family.otherHost
        case .gateway: family.gateway
        case .linkLocal: family == .ipv4 ? "169.254.1.1" : "fe80::1"
        case .martian: family == .ipv4 ? "127.0.0.5" : "ff02::5"
        }
    }
}

/// One step of a random sequence. What depends on the steps before (the ports that flows have got) is looked up when the step
/// is taken, so that a sequence with some of its steps left out is a sequence still.
enum Step {
    case packet(PacketStep)
    case map(MappingPlan)
    /// Removes the mapping of this number, of those that are there then.
    case unmap(Int, cut: Bool)
    /// Gives the mapping of this number another target port.
    case remap(Int, port: UInt16, cut: Bool)
    case masquerade(MasqueradePlan)
    case unmasquerade(Family)
    /// Ends all flows.
    case flush
    /// Every next hop is to be asked for again.
    case forgetNextHops
    /// So many seconds of silence, and a sweep.
    case wait(Int)
}

/// A mapping to be made.
struct MappingPlan: Equatable {
    var family: Family
    var transport: Transport
    /// nil: any local address.
    var host: Packet.Address?
    var ports: ClosedRange<UInt16>
    var target: Packet.Address
    var targetPort: UInt16
    /// All its ports lead to one.
    var hasOneTarget: Bool
    /// Empty: everybody.
    var allowed: [Packet.Address]

    /// As `fastnat map add` takes it.
    var text: String {
        let listen = "\(family.bracketed(host ?? family.any)):\(Self.range(ports))/\(transport)"
        let last = targetPort + (hasOneTarget ? 0 : ports.upperBound - ports.lowerBound)
        let clause = allowed.isEmpty ? "" : " allow=" + allowed.map(\.description).joined(separator: ",")
        return "\(listen) \(family.bracketed(target)):\(Self.range(targetPort...last))\(clause)"
    }

    private static func range(_ ports: ClosedRange<UInt16>) -> String {
        ports.count == 1 ? "\(ports.lowerBound)" : "\(ports.lowerBound)-\(ports.upperBound)"
    }
}

/// A masquerade of a family's containers to be made.
struct MasqueradePlan: Equatable {
    var family: Family
    var source: Packet.Address
    /// nil: any, a server's for a server's.
    var ports: ClosedRange<UInt16>?
    var exempt: [Packet.Address]
}

/// A packet to be sent.
struct PacketStep {
    enum Ends {
        case between(Party, UInt16, Party, UInt16)
        /// Of the flow of this number, of those that there are then; without one there is no packet.
        case flow(Int, reply: Bool)
    }

    /// What keeps a frame from being fastnat's.
    enum Fault: CaseIterable {
        case truncated, version, length, transportLength, otherMAC, broadcast, tagged
    }

    var ends: Ends
    var family: Family
    var transport: Transport
    /// At XDP first, and then at TC when XDP passes it; or at TC alone.
    var hook: Hook
    /// It comes in on the other side than its sender is on.
    var isAstray: Bool
    var flags: Packet.TCPFlags
    var ttl: UInt8 = 64
    var payload: [UInt8] = []
    var trafficClass: UInt8 = 0
    var checksum = Packet.Checksum.correct
    var hasOptions = false
    var fault: Fault?

    /// The packet between two ends, as it comes in on a device with this address.
    func packet(_ source: Packet.Endpoint, _ destination: Packet.Endpoint, on device: TestNetwork.Device) -> Packet {
        let packet: Packet =
            switch transport {
            case .tcp: .tcp(from: source, to: destination, flags, acknowledgement: 77, payload: payload)
            case .udp, .icmp: .udp(from: source, to: destination, payload: payload)
            case .sctp: .sctp(from: source, to: destination, .initiate, payload: payload)
            }
        return packet.with {
            $0.link = (TestNetwork.neighbour(of: source.address)?.mac ?? TestNetwork.gatewayMAC, device.mac)
            $0.ttl = ttl
            $0.trafficClass = trafficClass
            $0.transportChecksum = checksum
            if hasOptions { $0.ipv4?.options = [1, 1, 1, 0] }
            fault?.apply(to: &$0)
        }
    }
}

extension PacketStep.Fault {
    /// Whether the frame contradicts itself; the others are well, but not for fastnat.
    var isMalformed: Bool { [.truncated, .version, .length, .transportLength].contains(self) }

    fileprivate func apply(to packet: inout Packet) {
        switch self {
        case .truncated: packet.truncation = packet.bytes.count - 1
        case .version:
            packet.payload += [UInt8](repeating: 0, count: 20)  // a test run wants a whole IPv6 header
            let other: UInt16 = packet.ipv4 == nil ? 0x0800 : 0x86dd
            packet.ethernet?.type = other
        case .length:
            packet.ipv4?.totalLengthDelta = 1
            packet.ipv6?.payloadLengthDelta = 1
        case .transportLength:
            packet.udp?.lengthDelta = 1
            if packet.tcp != nil {
                packet.payload = []
                packet.truncation = packet.bytes.count - 4
            }
        case .otherMAC: packet.ethernet?.destination = "02:00:00:00:09:09"
        case .broadcast: packet.ethernet?.destination = .broadcast
        case .tagged: packet.ethernet?.vlan = 7
        }
    }
}

extension TestNetwork {
    /// The side and the MAC address of the next hop towards an address; nil for those of the host.
    static func neighbour(of address: Packet.Address) -> (side: Side, mac: Packet.MAC)? {
        neighbours[address] ?? (hostAddresses.contains(address) ? nil : (.uplink, gatewayMAC))
    }

    private static let hostAddresses = Set(Family.allCases.flatMap { [$0.host, $0.otherHost, $0.gateway] })

    private static let neighbours = Dictionary(
        uniqueKeysWithValues: Family.allCases.flatMap { family in
            [
                (family.client, (side: Side.uplink, mac: clientMAC)), (family.target, (.container, targetMAC)),
                (family.otherTarget, (.container, otherTargetMAC)),
            ]
        })
}
