/// A server program in a namespace that listens, for IPv4 and IPv6, when this object has been made, and ends with it.
public final class TrafficServer: Sendable {
    /// What the server does.
    public enum Kind: Sendable {
        /// HTTP: `/` answers "address port\n" of the client, `/bytes/N` answers N bytes of "x".
        case http
        /// TCP: sends back what it receives.
        case tcpEcho
        /// UDP: sends back what it receives.
        case udpEcho
        /// UDP: answers "address port payload", with the client's address.
        case udpReport
        /// UDP: prints "address port length sha256" of what it receives.
        case udpPrint
        /// UDP over IPv4: answers as many bytes as the datagram says, without DF.
        case udpBytes
        /// TCP: answers each line "name line".
        case tcpNamed(String)
        /// UDP: answers "name payload".
        case udpNamed(String)
        /// UDP: the other end of `Traffic.exchangeSegmented`.
        case udpSegmented
        /// TCP: the other end of `Traffic.transfer`.
        case bulk
    }

    /// The port.
    public let port: UInt16
    /// What it printed, and whether it runs.
    public let process: ChildProcess

    /// Starts a server and waits until it listens.
    public init(_ kind: Kind, in namespace: NetworkNamespace, port: UInt16) throws(TestingError) {
        self.port = port
        process = try namespace.spawn(Script.python(kind.script, "\(port)"))
        try namespace.waitUntil(listening: port, kind.transport, by: process)
    }

    /// Ends it.
    public func stop() { process.terminate(grace: .zero) }
}

extension TrafficServer.Kind {
    /// What it listens with.
    public var transport: TransportProtocol {
        switch self {
        case .udpEcho, .udpReport, .udpNamed, .udpSegmented, .udpPrint, .udpBytes: .udp
        case .http, .tcpEcho, .tcpNamed, .bulk: .tcp
        }
    }

    fileprivate var script: String {
        switch self {
        case .http: Script.http
        case .tcpEcho: Script.tcpEcho
        case .udpEcho: Script.udp(reply: "data")
        case .udpReport: Script.udp(reply: "f'{plain(peer)} {peer[1]} '.encode() + data")
        case .udpPrint: Script.udpPrint
        case .udpBytes: Script.udpBytes
        case .tcpNamed(let name): Script.tcpNamed(name)
        case .udpNamed(let name): Script.udp(reply: "b'\(name) ' + data")
        case .udpSegmented: Script.udpSegmentedServer
        case .bulk: Script.bulkServer
        }
    }
}
