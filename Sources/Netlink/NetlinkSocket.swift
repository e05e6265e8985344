internal import CLinux
internal import CMnl
internal import Glibc

/// One of the kernel's netlink protocols: the type of a socket says which queries it has.
public protocol NetlinkBus {
    /// The protocol's number, `NETLINK_*` of `<linux/netlink.h>`.
    static var number: Int32 { get }
    /// The protocol's name for messages, such as `route`.
    static var name: String { get }
}

/// Interfaces, addresses, routes and neighbours: rtnetlink(7).
public enum RouteBus: NetlinkBus {
    /// `NETLINK_ROUTE`
    public static var number: Int32 { NETLINK_ROUTE }
    /// `route`
    public static var name: String { "route" }
}

/// Sockets of this network namespace: sock_diag(7).
public enum SocketDiagnosisBus: NetlinkBus {
    /// `NETLINK_SOCK_DIAG`
    public static var number: Int32 { NETLINK_SOCK_DIAG }
    /// `socket diagnosis`
    public static var name: String { "socket diagnosis" }
}

/// Families that are registered by name, `netdev` among them.
public enum GenericBus: NetlinkBus {
    /// `NETLINK_GENERIC`
    public static var number: Int32 { NETLINK_GENERIC }
    /// `generic`
    public static var name: String { "generic" }
}

/// Questions about interfaces, addresses, routes and neighbours.
public typealias RouteNetlink = NetlinkSocket<RouteBus>
/// Questions about listening sockets.
public typealias SocketDiagnosisNetlink = NetlinkSocket<SocketDiagnosisBus>
/// Questions about what a network driver can do.
public typealias GenericNetlink = NetlinkSocket<GenericBus>

/// A netlink socket with room for one answer, closed when it goes out of scope.
///
/// It belongs to the network namespace of the thread that opened it, and answers for that one whatever thread asks.
/// A question waits for its whole answer; one that fails leaves the socket usable.
public struct NetlinkSocket<Bus: NetlinkBus>: ~Copyable {
    /// libmnl's socket.
    private let socket: OpaquePointer
    /// Where requests are built and answers are received. The kernel fills at most 32 KiB at once (`netlink_dump`).
    private let buffer: UnsafeMutableRawBufferPointer
    /// The number of the last request; answers with another one belong to a request that failed.
    private var sequence: UInt32 = 0

    /// Opens a socket in the network namespace of this thread.
    ///
    /// - Throws: `.system` when the kernel lacks the protocol, or has no memory or descriptors left.
    public init() throws(NetlinkError) {
        let attempt = "open a \(Bus.name) netlink socket"
        guard let socket = mnl_socket_open2(Bus.number, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw .system(attempt: attempt, errno: errno)
        }
        guard mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0 else {
            let code = errno
            _ = mnl_socket_close(socket)
            throw .system(attempt: attempt, errno: code)
        }
        // Strict checking makes the kernel refuse filters that it would otherwise ignore. Before 4.20 it has none.
        var on: Int32 = 1
        _ = mnl_socket_setsockopt(socket, NETLINK_GET_STRICT_CHK, &on, socklen_t(MemoryLayout<Int32>.size))
        self.socket = socket
        self.buffer = .allocate(byteCount: 32 << 10, alignment: MemoryLayout<nlmsghdr>.alignment)
    }

    deinit {
        buffer.deallocate()
        _ = mnl_socket_close(socket)
    }
}

/// Sound because nobody else has the descriptor and the buffer, and using them takes exclusive access.
extension NetlinkSocket: @unchecked Sendable {}

extension NetlinkSocket {
    /// Asks for one thing and parses the kernel's message about it.
    ///
    /// - Throws: `.system` with the kernel's errno, `.malformed` when there was no message that `parse` took.
    mutating func get<Header: BitwiseCopyable, Answer>(
        _ attempt: String, type: Int, header: Header, attributes: (Request) -> Void,
        parse: (Message) -> Answer?
    ) throws(NetlinkError) -> Answer {
        var answer: Answer?
        let request = try build(attempt, type: type, flags: NLM_F_ACK, header: header, attributes: attributes)
        _ = try exchange(attempt, request) { message in answer = answer ?? parse(message) }
        guard let answer else { throw .malformed(attempt: attempt) }
        return answer
    }

    /// Asks for a whole table and parses the kernel's messages, leaving out those for which `parse` gives nil.
    ///
    /// - Throws: `.system` with the kernel's errno, `.inconsistent` when the table changed under each attempt.
    mutating func dump<Header: BitwiseCopyable, Element>(
        _ attempt: String, type: Int, header: Header, attributes: (Request) -> Void = { _ in },
        parse: (Message) -> Element?
    ) throws(NetlinkError) -> [Element] {
        for _ in 1...10 {
            var elements: [Element] = []
            let request = try build(attempt, type: type, flags: NLM_F_DUMP, header: header, attributes: attributes)
            let isConsistent = try exchange(attempt, request) { message in
                if let element = parse(message) { elements.append(element) }
            }
            if isConsistent { return elements }
        }
        throw .inconsistent(attempt: attempt)
    }

    /// Writes a request into the buffer.
    private mutating func build<Header: BitwiseCopyable>(
        _ attempt: String, type: Int, flags: Int32, header: Header, attributes: (Request) -> Void
    ) throws(NetlinkError) -> Request {
        guard let message = mnl_nlmsg_put_header(buffer.baseAddress) else { throw .malformed(attempt: attempt) }
        sequence &+= 1
        message.pointee.nlmsg_type = UInt16(truncatingIfNeeded: type)
        message.pointee.nlmsg_flags = UInt16(truncatingIfNeeded: NLM_F_REQUEST | flags)
        message.pointee.nlmsg_seq = sequence
        guard let start = mnl_nlmsg_put_extra_header(message, MemoryLayout<Header>.stride) else {
            throw .malformed(attempt: attempt)
        }
        start.storeBytes(of: header, as: Header.self)
        let request = Request(message: message, capacity: buffer.count)
        attributes(request)
        return request
    }

    /// Sends the request and hands over its answer, message by message, to the end even after an error: nothing of it
    /// is left for the next request. Gives false when the kernel says that a dump was not consistent.
    private func exchange(
        _ attempt: String, _ request: Request, receive: (Message) -> Void
    ) throws(NetlinkError) -> Bool {
        let sent = request.message
        guard mnl_socket_sendto(socket, sent, Int(sent.pointee.nlmsg_len)) >= 0 else {
            throw .system(attempt: attempt, errno: errno)
        }
        var isConsistent = true
        while true {
            let length = mnl_socket_recvfrom(socket, buffer.baseAddress, buffer.count)
            if length < 0 {
                if errno == EINTR { continue }
                throw .system(attempt: attempt, errno: errno)
            }
            var remaining = Int32(truncatingIfNeeded: length)
            var next = buffer.baseAddress.map { UnsafePointer($0.assumingMemoryBound(to: nlmsghdr.self)) }
            while let message = next, mnl_nlmsg_ok(message, remaining) {
                next = UnsafePointer(mnl_nlmsg_next(message, &remaining))
                guard
                    mnl_nlmsg_seq_ok(message, sequence),
                    mnl_nlmsg_portid_ok(message, mnl_socket_get_portid(socket))
                else { continue }
                if Int32(message.pointee.nlmsg_flags) & NLM_F_DUMP_INTR != 0 { isConsistent = false }
                let received = Message(header: message)
                switch Int32(message.pointee.nlmsg_type) {
                case NLMSG_NOOP: continue
                case NLMSG_ERROR, NLMSG_DONE:
                    // Both begin with a negative errno or 0; only old kernels end a dump without.
                    guard let code = received.payload(as: Int32.self), code != 0 else { return isConsistent }
                    throw .system(attempt: attempt, errno: -code)
                default: receive(received)
                }
            }
        }
    }
}
