internal import FoundationEssentials
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// The Engine API of a Docker that listens on a unix socket. Each request has a connection of its own.
public struct DockerEngine: Sendable {
    /// Where Docker listens unless told otherwise.
    public static let defaultSocket = "/var/run/docker.sock"

    /// The path of the socket.
    public let socket: String

    /// The longest answer that is read: the list of many thousand containers.
    private static let longestAnswer = 256 << 20
    /// How long an answer may take. Docker is slow when it starts a hundred containers at once.
    private static let patience = Duration.seconds(60)

    /// The Docker that listens there. Nothing is asked yet.
    public init(socket: String = Self.defaultSocket) { self.socket = socket }

    /// What containers publish and networks masquerade, now.
    ///
    /// Containers come first: a network that one of them is in was there before. Their list is long: it is decoded while Docker
    /// makes the other.
    public func publications(of owners: DockerOwners) async throws(DockerError) -> Publications {
        let list = try await body(of: "/containers/json")
        async let answer = attempting { () throws(DockerError) in try await body(of: "/networks") }
        let containers = try Self.decode(list, as: [EngineContainer].self, answering: "/containers/json")
        let networks = try Self.decode(try await answer.get(), as: [EngineNetwork].self, answering: "/networks")
        return Publications(containers, networks, of: owners)
    }

    /// Reads events as long as Docker sends them, and returns when it ends that.
    ///
    /// - Parameter begun: called when every event from now on will be seen.
    func readEvents(
        begun: @Sendable () -> Void, _ body: @Sendable (EngineEvent) -> Void
    ) async throws(DockerError) {
        let path = "/events?filters=" + Self.filters
        var lines = LineBuffer()
        try await request(path, begun: begun) { bytes throws(DockerError) in
            lines.append(bytes)
            while let line = lines.next() { body(try Self.decode(line, as: EngineEvent.self, answering: "/events")) }
        }
    }

    /// The events after which something else may be published, as a percent-encoded value of the query.
    private static let filters = percentEncoded(
        #"{"type":["container","network"],"event":["start","die","connect","disconnect","create","destroy","remove"]}"#)

    private func body(of path: String) async throws(DockerError) -> ByteBuffer {
        try await within(Self.patience, or: .silent("GET \(path)")) { () throws(DockerError) in
            var body = ByteBuffer()
            try await request(path) { bytes throws(DockerError) in
                guard body.readableBytes + bytes.readableBytes <= Self.longestAnswer else {
                    throw .malformed(request: "GET \(path)", problem: "it is too long")
                }
                body.writeImmutableBuffer(bytes)
            }
            return body
        }
    }

    private static func decode<Answer: Decodable>(
        _ bytes: ByteBuffer, as type: Answer.Type, answering path: String
    ) throws(DockerError) -> Answer {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes.readableBytesView))
        } catch {
            throw .malformed(request: "GET \(path)", problem: "\(error)")
        }
    }

    // MARK: One request

    private typealias Connection = NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>

    /// Sends a request and hands over the parts of the answer's body as they come.
    private func request(
        _ path: String, begun: @Sendable () -> Void = {}, _ body: (ByteBuffer) throws(DockerError) -> Void
    ) async throws(DockerError) {
        let connection: Connection
        do {
            connection = try await connect()
        } catch {
            throw .unreachable(socket, problem: Self.text(of: error))
        }
        do {
            try await connection.executeThenClose { answer, request in
                let headers = HTTPHeaders([("Host", "docker"), ("User-Agent", "fastnat"), ("Connection", "close")])
                let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: path, headers: headers)
                // Together: Docker may have answered and closed before a second write.
                try await request.write(contentsOf: [.head(head), .end(nil)])
                try await Self.read(answer, "GET \(path.prefix { $0 != "?" })", begun: begun, body)
            }
        } catch let error as DockerError {
            throw error
        } catch {
            throw .unreachable(socket, problem: Self.text(of: error))
        }
    }

    private func connect() async throws -> Connection {
        try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).connect(unixDomainSocketPath: socket) {
            channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHTTPClientHandlers()
                return try Connection(wrappingChannelSynchronously: channel)
            }
        }
    }

    private static func read(
        _ answer: NIOAsyncChannelInboundStream<HTTPClientResponsePart>, _ name: String, begun: () -> Void,
        _ body: (ByteBuffer) throws(DockerError) -> Void
    ) async throws {
        var failure: UInt?
        var message = ByteBuffer()
        for try await part in answer {
            switch part {
            case .head(let head):
                if head.status.code == 200 { begun() } else { failure = head.status.code }
            case .body(let bytes) where failure != nil:
                if message.readableBytes < 4096 { message.writeImmutableBuffer(bytes) }
            case .body(let bytes): try body(bytes)
            case .end:
                guard let failure else { return }
                throw DockerError.refused(request: name, status: failure, message: Self.message(in: message))
            }
        }
        throw DockerError.malformed(request: name, problem: "it ends in the middle")
    }

    /// The text of an error that Docker answers.
    private static func message(in answer: ByteBuffer) -> String {
        struct Answer: Decodable { let message: String }
        let text = String(decoding: answer.readableBytesView, as: UTF8.self)
        let decoded = try? JSONDecoder().decode(Answer.self, from: Data(answer.readableBytesView))
        return (decoded?.message ?? text).split(whereSeparator: \.isNewline).joined(separator: " ")
    }

    private static func text(of error: any Error) -> String {
        (error as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(error)"
    }
}

/// Cuts a stream of bytes into lines.
private struct LineBuffer {
    private var bytes = ByteBuffer()

    mutating func append(_ more: ByteBuffer) {
        bytes.discardReadBytes()
        bytes.writeImmutableBuffer(more)
    }

    /// The next whole line that is not empty, without its end.
    mutating func next() -> ByteBuffer? {
        while let end = bytes.readableBytesView.firstIndex(of: UInt8(ascii: "\n")) {
            let line = bytes.readSlice(length: end - bytes.readerIndex)
            bytes.moveReaderIndex(forwardBy: 1)
            if let line, line.readableBytes > 0 { return line }
        }
        return nil
    }
}

/// What `body` returns or throws.
private func attempting<Result: Sendable>(
    _ body: @Sendable () async throws(DockerError) -> Result
) async -> Swift.Result<Result, DockerError> {
    do throws(DockerError) { return .success(try await body()) } catch { return .failure(error) }
}

/// Runs `body`, and throws `failure` when that takes too long.
private func within<Result: Sendable>(
    _ patience: Duration, or failure: DockerError, _ body: @Sendable @escaping () async throws(DockerError) -> Result
) async throws(DockerError) -> Result {
    do {
        return try await withThrowingTaskGroup(of: Result.self) { group in
            group.addTask { try await body() }
            group.addTask {
                try await Task.sleep(for: patience)
                throw failure
            }
            defer { group.cancelAll() }
            guard let result = try await group.next() else { throw failure }
            return result
        }
    } catch let error as DockerError {
        throw error
    } catch {
        throw failure
    }
}

/// A text as a query has it: everything but letters and digits escaped.
private func percentEncoded(_ text: String) -> String {
    text.utf8.map { byte in
        let digits = String(byte, radix: 16, uppercase: true)
        let isPlain =
            byte < 0x80 && (Character(UnicodeScalar(byte)).isLetter || Character(UnicodeScalar(byte)).isNumber)
        return isPlain ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + digits
    }.joined()
}
