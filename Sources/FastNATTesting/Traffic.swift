/// Clients: real programs that run to their end inside a namespace.
public enum Traffic {
    /// Which way a transfer goes, as seen from the client.
    public enum Direction: String, Sendable, CaseIterable {
        /// Client to server.
        case upload
        /// Server to client.
        case download
    }

    /// The body of an HTTP answer, fetched with curl over a connection of its own.
    @discardableResult
    public static func get(
        _ server: Packet.Endpoint, path: String = "/", from client: NetworkNamespace, sourcePort: UInt16? = nil,
        timeout: Duration = .seconds(5)
    ) throws(TestingError) -> String {
        let seconds = "\(Double(timeout.milliseconds) / 1_000)"
        var command = ["curl", "-sS", "-g", "--noproxy", "*", "--max-time", seconds, "http://\(server)\(path)"]
        if let sourcePort { command += ["--local-port", "\(sourcePort)"] }
        return try client.command(command, timeout: timeout + .seconds(5)).output
    }

    /// Whether curl gets an answer within `timeout`.
    public static func canGet(
        _ server: Packet.Endpoint, from client: NetworkNamespace, timeout: Duration = .seconds(1)
    ) -> Bool {
        (try? get(server, from: client, timeout: timeout)) != nil
    }

    /// Sends one datagram and returns the answer, or throws `.commandFailed` if none comes.
    @discardableResult
    public static func exchangeUDP(
        _ payload: [UInt8], with server: Packet.Endpoint, from client: NetworkNamespace, sourcePort: UInt16 = 0,
        timeout: Duration = .seconds(2)
    ) throws(TestingError) -> [UInt8] {
        let seconds = "\(Double(timeout.milliseconds) / 1_000)"
        let command = Script.python(
            Script.udpClient, server.address.description, "\(server.port)", "\(sourcePort)", seconds)
        return try client.command(command, input: payload, timeout: timeout + .seconds(5)).outputBytes
    }

    /// The ICMP error that a datagram meets, as its sender's socket is told; nil when none comes in time.
    public static func errorAboutUDP(
        to server: Packet.Endpoint, from client: NetworkNamespace, sourcePort: UInt16 = 0, hops: Int = 64,
        timeout: Duration = .seconds(2)
    ) throws(TestingError) -> ICMPError? {
        let seconds = "\(Double(timeout.milliseconds) / 1_000)"
        let command = Script.python(
            Script.udpError, server.address.description, "\(server.port)", "\(sourcePort)", "\(hops)", seconds)
        let words = try client.command(command, timeout: timeout + .seconds(5)).output.split(separator: " ")
        guard words.count == 3, let type = UInt8(words[0]), let code = UInt8(words[1]) else { return nil }
        return ICMPError(type: type, code: code, sender: try Packet.Address(String(words[2])))
    }

    /// Sends bytes over a TCP connection, closes it half and returns all that comes back.
    @discardableResult
    public static func exchangeTCP(
        _ payload: [UInt8], with server: Packet.Endpoint, from client: NetworkNamespace,
        timeout: Duration = .seconds(5)
    ) throws(TestingError) -> [UInt8] {
        let family = server.address.isIPv6 ? "TCP6" : "TCP4"
        let command = ["socat", "-t", "5", "-", "\(family):\(server),connect-timeout=3"]
        return try client.command(command, input: payload, timeout: timeout).outputBytes
    }

    /// Echo requests with `ping`; throws `.commandFailed` if an answer is missing.
    public static func ping(
        _ address: Packet.Address, from client: NetworkNamespace, count: Int = 1, size: Int = 56,
        arguments: [String] = []
    ) throws(TestingError) {
        let options = ["-n", "-c", "\(count)", "-i", "0.01", "-W", "2", "-s", "\(size)"]
        try client.command(["ping"] + options + arguments + [address.description])
    }

    /// Moves random bytes to or from a `.bulk` server; throws `.corrupted` unless both ends have the same SHA-256.
    public static func transfer(
        megabytes: Int, _ direction: Direction, with server: Packet.Endpoint, from client: NetworkNamespace,
        timeout: Duration = .seconds(60)
    ) throws(TestingError) {
        let command = Script.python(
            Script.bulkClient, server.address.description, "\(server.port)", direction.rawValue,
            "\(megabytes << 20)")
        let result = try client.command(command, timeout: timeout)
        let sums = result.output.split(separator: " ")
        guard sums.count == 2, sums[0].count == 64, sums[0] == sums[1] else {
            throw .corrupted("\(direction) of \(megabytes) MB with \(server): \(result.output)")
        }
    }
}

/// An ICMP error as a socket is told of it.
public struct ICMPError: Sendable, Hashable {
    /// The type.
    public let type: UInt8
    /// The code.
    public let code: UInt8
    /// Who sent it.
    public let sender: Packet.Address

    init(type: UInt8, code: UInt8, sender: Packet.Address) {
        (self.type, self.code, self.sender) = (type, code, sender)
    }

    /// The error of this kind in the sender's family.
    public init(_ kind: ICMPErrorKind, from sender: Packet.Address) {
        let fields = kind.fields(isIPv6: sender.isIPv6)
        self.init(type: fields.type, code: fields.code, sender: sender)
    }
}
