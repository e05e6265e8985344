import FastNATTesting
import Glibc

/// The kernel's own NAT between the same neighbours as the test datapath: packets go in at the far ends of the host's devices,
/// and what comes out is taken from there.
final class KernelNAT {
    private let network: TestNetwork
    private let uplink: PacketSocket
    private let container: PacketSocket

    init() throws {
        network = try TestNetwork()
        let namespace = network.namespace
        for (name, value) in [
            // As fastnat has it: no connection is picked up in its middle, and sequence numbers are not looked at.
            ("net.netfilter.nf_conntrack_tcp_loose", "0"), ("net.netfilter.nf_conntrack_tcp_be_liberal", "1"),
            ("net.ipv4.conf.all.send_redirects", "0"), ("net/ipv4/conf/ctr/send_redirects", "0"),
        ] { try namespace.setSystemControl(name, value) }
        (uplink, container) = try namespace.run { () throws(TestingError) in
            (try PacketSocket("uplink-peer"), try PacketSocket("ctr-peer"))
        }
    }

    func device(_ side: Side) -> TestNetwork.Device { side == .uplink ? network.uplink : network.container }

    /// Puts rules in the place of those that are there.
    func setRules(_ model: ReferenceModel) throws {
        let rules = ["table inet model", "delete table inet model"] + table(model)
        try network.namespace.command(["nft", "-f", "-"], input: Array(rules.joined(separator: "\n").utf8))
    }

    /// Forgets all connections.
    func flush() throws { try network.namespace.command(["conntrack", "-F"]) }

    /// Sends a packet whose payload is like no other's, and returns what has become of it; nil: it was not forwarded.
    func forward(_ packet: Packet, from side: Side, marker: [UInt8], isExpected: Bool) throws -> [UInt8]? {
        try socket(side).send(packet.bytes)
        if isExpected { return try receive(marker) }
        // What is sent next comes out behind it.
        try uplink.send(Self.fence.bytes)
        return try receive(marker, orUntil: Self.fence.payload)
    }

    private func receive(_ marker: [UInt8], orUntil end: [UInt8]? = nil) throws -> [UInt8]? {
        let deadline = ContinuousClock.now + .milliseconds(300)
        var found: [UInt8]?
        while ContinuousClock.now < deadline {
            for socket in [uplink, container] {
                while let frame = socket.receive() {
                    let payload = PacketView(frame).transportPayload
                    if payload.starts(with: marker) { found = frame }
                    if payload == end { return found }
                }
            }
            if found != nil, end == nil { return found }
        }
        return found
    }

    private func socket(_ side: Side) -> PacketSocket { side == .uplink ? uplink : container }

    private static let fence = Packet.udp(
        from: Packet.Endpoint(Family.ipv4.client, port: 9), to: Packet.Endpoint(Family.ipv4.target, port: 9),
        payload: Array("behind it".utf8)
    ).with { $0.link = (TestNetwork.clientMAC, TestNetwork.deviceMAC(.uplink)) }

    private func table(_ model: ReferenceModel) -> [String] {
        // A mapping of one address goes before those of any.
        let plans = model.mappings.map(\.plan)
        let ordered = plans.filter { $0.host != nil } + plans.filter { $0.host == nil }
        let hairpins = Family.allCases.flatMap { family in
            [family.host, family.otherHost, family.gateway].map { address in
                "\(family.ip) saddr \(family.containers) \(family.ip) daddr \(family.containers) ct status dnat "
                    + "ct original \(family.ip) daddr \(address) snat \(family.ip) to \(address)"
            }
        }
        return ["table inet model {", "chain in { type nat hook prerouting priority dstnat;"] + ordered.flatMap(\.rules)
            + ["}", "chain out { type nat hook postrouting priority srcnat;"] + hairpins
            + model.masquerades.map(\.plan.rule) + ["}", "}", ""]
    }
}

extension MappingPlan {
    /// As rules of nftables; a range must have one target. Whoever may not connect does not come to a mapping behind this one.
    fileprivate var rules: [String] {
        let destination =
            host.map { "\(family.ip) daddr \($0)" } ?? "meta nfproto \(family.nfproto) fib daddr type local"
        let source =
            allowed.isEmpty ? "" : "\(family.ip) saddr { \(allowed.map(\.description).joined(separator: ", ")) }"
        let port = "\(transport) dport \(ports.lowerBound)-\(ports.upperBound)"
        return [
            "\(destination) \(source) \(port) dnat \(family.ip) to \(family.bracketed(target)):\(targetPort)",
            "\(destination) \(port) accept",
        ]
    }
}

extension MasqueradePlan {
    /// As a rule of nftables.
    fileprivate var rule: String {
        let except =
            exempt.isEmpty ? "" : "\(family.ip) daddr != { \(exempt.map(\.description).joined(separator: ", ")) }"
        let range = ports.map { ":\($0.lowerBound)-\($0.upperBound)" } ?? ""
        let address = ports == nil ? "\(source)" : family.bracketed(source)
        return "oifname \"uplink\" \(family.ip) saddr \(family.containers) \(except) meta l4proto { tcp, udp } "
            + "snat \(family.ip) to \(address)\(range)"
    }
}

extension Family {
    fileprivate var ip: String { self == .ipv4 ? "ip" : "ip6" }
    fileprivate var nfproto: String { rawValue }
}

extension PacketView {
    /// What follows the header of TCP or UDP; nothing for other packets, such as errors that quote one.
    fileprivate var transportPayload: [UInt8] { self["tcp.sport"] ?? self["udp.sport"] == nil ? [] : payload }
}

/// A packet socket on one device.
private final class PacketSocket: Sendable {
    private let descriptor: Int32

    init(_ device: String) throws(TestingError) {
        let everything = UInt16(0x0003).bigEndian  // ETH_P_ALL
        descriptor = Glibc.socket(
            AF_PACKET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_NONBLOCK.rawValue), Int32(everything))
        guard descriptor >= 0 else { throw .system(call: "socket", errno: errno) }
        // struct sockaddr_ll
        var address = withUnsafeBytes(of: UInt16(AF_PACKET)) { Array($0) }
        address += withUnsafeBytes(of: everything) { Array($0) }
        address += withUnsafeBytes(of: Int32(if_nametoindex(device))) { Array($0) }
        address += [UInt8](repeating: 0, count: 12)
        let bound = address.withUnsafeBytes {
            guard let base = $0.baseAddress else { return Int32(-1) }
            return bind(descriptor, base.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
        guard bound == 0 else { throw .system(call: "bind \(device)", errno: errno) }
        var ignoreOutgoing: Int32 = 1
        _ = setsockopt(descriptor, 263, 23, &ignoreOutgoing, 4)  // SOL_PACKET, PACKET_IGNORE_OUTGOING
    }

    deinit { Glibc.close(descriptor) }

    func send(_ frame: [UInt8]) throws(TestingError) {
        guard Glibc.send(descriptor, frame, frame.count, 0) == frame.count else {
            throw .system(call: "send", errno: errno)
        }
    }

    /// nil: there is none.
    func receive() -> [UInt8]? {
        var frame = [UInt8](repeating: 0, count: 2_048)
        let length = recv(descriptor, &frame, frame.count, 0)
        return length > 0 ? Array(frame.prefix(length)) : nil
    }
}
