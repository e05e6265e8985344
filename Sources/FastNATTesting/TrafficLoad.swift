import Foundation

/// A client that sends a numbered line every few milliseconds over one TCP connection, or from one UDP socket, and prints
/// what comes back.
public final class Pulse: Sendable {
    private let process: ChildProcess

    /// Starts it and waits for the first answer.
    public init(
        _ transport: TransportProtocol, to server: Packet.Endpoint, from client: NetworkNamespace,
        sourcePort: UInt16 = 0, interval: Duration = .milliseconds(10)
    ) throws(TestingError) {
        let script = transport == .tcp ? Script.tcpPulse : Script.udpPulse
        let seconds = Double(interval.milliseconds) / 1_000
        process = try client.spawn(
            Script.python(script, server.address.description, "\(server.port)", "\(sourcePort)", "\(seconds)"))
        try process.waitUntil(printed: "\n")
    }

    /// What came back so far, a line for each that was sent; over UDP also "lost" and "refused".
    public var answers: [Substring] { process.output.split(separator: "\n") }

    /// Waits for so many answers more.
    public func awaitAnswers(_ count: Int, timeout: Duration = .seconds(15)) throws(TestingError) {
        let wanted = answers.count + count
        try awaitCondition("\(wanted) answers: \(process.errors)", timeout: timeout) { () throws(TestingError) in
            if !process.isRunning { throw .commandFailed(try process.wait()) }
            return answers.count >= wanted
        }
    }

    /// Waits for an answer, from now on, that fulfils `condition`.
    public func awaitAnswer(
        _ what: String, timeout: Duration = .seconds(5), _ condition: (Substring) -> Bool
    ) throws(TestingError) {
        let before = answers.count
        var last: Substring = ""
        try awaitCondition("\(what), last \(last)", timeout: timeout) { () throws(TestingError) in
            if !process.isRunning { throw .commandFailed(try process.wait()) }
            let new = answers.dropFirst(before)
            last = new.last ?? ""
            return new.contains(where: condition)
        }
    }

    /// Ends it; throws `.commandFailed` if the connection had broken.
    @discardableResult
    public func stop() throws(TestingError) -> [Substring] {
        process.signal(SIGINT)
        try process.wait().check()
        return answers
    }
}

/// Many clients at once that open one connection after the other, each of them a line there and back.
public final class Storm: Sendable {
    /// What became of the connections.
    public struct Outcome: Sendable, Decodable {
        /// Connections with the right answer.
        public let succeeded: Int
        /// The others, by what went wrong.
        public let failures: [String: Int]
        /// Seconds that the longest one took.
        public let slowest: Double
    }

    private let process: ChildProcess

    /// Starts `workers` clients against a `.tcpEcho` server, each with so many connections, or for ever; waits until the
    /// first connection was good. The clients take turns with the source addresses, if there are any.
    public init(
        to server: Packet.Endpoint, from client: NetworkNamespace, workers: Int, connections: Int = 0,
        sources: [Packet.Address] = []
    ) throws(TestingError) {
        process = try client.spawn(
            Script.python(
                Script.storm, server.address.description, "\(server.port)", "\(workers)", "\(connections)",
                sources.map(\.description).joined(separator: ",")))
        try process.waitUntil(printed: "succeeded")
    }

    /// Waits until so many more connections were good.
    public func awaitProgress(_ count: Int = 200, timeout: Duration = .seconds(20)) throws(TestingError) {
        func succeeded() -> Int { process.errors.split(separator: " ").last.flatMap { Int($0.dropLast()) } ?? 0 }
        let wanted = succeeded() + count
        try awaitCondition("\(wanted) connections", timeout: timeout) { succeeded() >= wanted }
    }

    /// The outcome, once all connections have been made.
    public func wait(timeout: Duration = .seconds(60)) throws(TestingError) -> Outcome {
        let result = try process.wait(timeout: timeout)
        try result.check()
        guard let outcome = try? JSONDecoder().decode(Outcome.self, from: Data(result.outputBytes)) else {
            throw .malformed("\(result)")
        }
        return outcome
    }

    /// Ends it at once, whatever its connections are at.
    public func abandon() { process.terminate(grace: .zero) }

    /// Ends it and returns the outcome.
    public func stop() throws(TestingError) -> Outcome {
        process.signal(SIGINT)
        return try wait()
    }
}

extension Traffic {
    /// Bursts of datagrams, each sent in one call with UDP_SEGMENT, there and back; throws unless each arrives as it was.
    public static func exchangeSegmented(
        rounds: Int = 20, with server: Packet.Endpoint, from client: NetworkNamespace
    ) throws(TestingError) {
        try client.command(
            Script.python(Script.udpSegmentedClient, server.address.description, "\(server.port)", "\(rounds)"))
    }

    /// Puts frames on the wire as they are.
    public static func inject(
        _ frames: [[UInt8]], into interface: String, of namespace: NetworkNamespace
    ) throws(TestingError) {
        let lines = frames.map { hexText($0) + "\n" }.joined()
        try namespace.command(Script.python(Script.inject, interface), input: Array(lines.utf8))
    }

    /// A TCP exchange and datagrams with and without DF and, over IPv4, without a checksum, all with this traffic class (TCP
    /// without its ECN bits).
    public static func markedExchanges(
        trafficClass: UInt8, with server: Packet.Endpoint, from client: NetworkNamespace
    ) throws(TestingError) {
        try client.command(
            Script.python(Script.marked, server.address.description, "\(server.port)", "\(trafficClass)"))
    }
}

/// A program on an interface, behind the others there, that counts what it sees and passes it on.
public final class PacketCounter: Sendable {
    /// Where packets are counted; the kernel's numbers (`enum bpf_attach_type`).
    public enum Place: Int, Sendable {
        /// Before there is a socket buffer.
        case xdp = 37
        /// By a tcx program, when they arrive.
        case ingress = 46
        /// By a tcx program, when they leave.
        case egress = 47
    }

    private let process: ChildProcess

    /// Attaches it; it goes with this object.
    public init(
        on interface: String, of namespace: NetworkNamespace, at place: Place = .ingress
    ) throws(TestingError) {
        process = try namespace.spawn(Script.python(Script.packetCounter, interface, "\(place.rawValue)"))
        try process.waitUntil(printed: "\n")
    }

    /// Packets so far.
    public var count: Int { process.output.split(separator: "\n").last.flatMap { Int($0) } ?? 0 }

    /// Waits until it has seen so many.
    public func awaitCount(_ wanted: Int) throws(TestingError) {
        try awaitCondition("\(wanted) packets, \(count) so far") { count >= wanted }
    }

    /// Detaches it and returns the last count.
    public func stop() throws(TestingError) -> Int {
        process.signal(SIGINT)
        try process.wait().check()
        return count
    }
}
