/// A transport protocol that can be published.
public enum TransportProtocol: String, Sendable {
    /// TCP.
    case tcp
    /// UDP.
    case udp
    /// SCTP.
    case sctp

    /// Those that the kernel has sockets for wherever tests run.
    public static let allCases: [TransportProtocol] = [.tcp, .udp]
}

extension NetworkNamespace {
    /// Whether a socket of the namespace waits on `port`: TCP in LISTEN, UDP bound and not connected.
    public func isListening(on port: UInt16, _ transport: TransportProtocol) throws(TestingError) -> Bool {
        let waiting = transport == .tcp ? "0A" : "07"
        let hexadecimal = String(port, radix: 16, uppercase: true)
        let suffix = ":" + String(repeating: "0", count: 4 - hexadecimal.count) + hexadecimal
        for table in [transport.rawValue, transport.rawValue + "6"] {
            for line in try procNet(table) {
                let columns = line.split(separator: " ")
                if columns.count > 3, columns[1].hasSuffix(suffix), columns[3] == waiting { return true }
            }
        }
        return false
    }

    /// Waits until `server`, or anything if nil, listens on `port`; throws at once if `server` has ended.
    public func waitUntil(
        listening port: UInt16, _ transport: TransportProtocol, by server: ChildProcess? = nil,
        timeout: Duration = .seconds(10)
    ) throws(TestingError) {
        try awaitCondition("a \(transport) listener on \(port) in \(name)", timeout: timeout) {
            () throws(TestingError) in
            if try isListening(on: port, transport) { return true }
            if let server, !server.isRunning { throw .commandFailed(try server.wait()) }
            return false
        }
    }

    /// Waits until no IPv6 address of the namespace is tentative any more.
    public func waitUntilAddressesAreUsable(timeout: Duration = .seconds(5)) throws(TestingError) {
        let tentative = 0x40
        try awaitCondition("usable IPv6 addresses in \(name)", timeout: timeout) { () throws(TestingError) in
            try procNet("if_inet6").allSatisfy { line in
                let columns = line.split(separator: " ")
                return columns.count < 6 || (Int(columns[4], radix: 16) ?? 0) & tentative == 0
            }
        }
    }
}
