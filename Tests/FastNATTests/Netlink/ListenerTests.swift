import Addresses
import Glibc
import Netlink
import Testing

/// A socket that a test opens, closed with it.
private struct TestSocket: ~Copyable {
    let descriptor: Int32
    /// The port that the kernel chose, in host byte order.
    let port: UInt16

    /// A socket bound to `address` and any port; `listens` for TCP.
    init(
        _ transport: ListenerTransport, _ address: String, listens: Bool = true, ipv6Only: Bool = false,
        device: String? = nil
    ) throws {
        (descriptor, port) = try Self.open(transport, address, listens, ipv6Only, device)
    }

    private static func open(
        _ transport: ListenerTransport, _ address: String, _ listens: Bool, _ ipv6Only: Bool, _ device: String?
    ) throws -> (descriptor: Int32, port: UInt16) {
        let ip = try IPAddress(parsing: address)
        let family = ip.family == .ipv4 ? AF_INET : AF_INET6
        let type = transport == .tcp ? SOCK_STREAM : SOCK_DGRAM
        let descriptor = socket(family, Int32(type.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SetupError.last("socket") }
        if family == AF_INET6 {
            var on: Int32 = ipv6Only ? 1 : 0
            _ = setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &on, 4)
        }
        if let device {
            guard setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, device, socklen_t(device.utf8.count)) == 0 else {
                throw SetupError.last("SO_BINDTODEVICE")
            }
        }
        var storage = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let bytes = ip.bytes
        withUnsafeMutableBytes(of: &storage) { storage in
            storage.storeBytes(of: sa_family_t(family), as: sa_family_t.self)
            storage[(ip.family == .ipv4 ? 4 : 8)...].copyBytes(from: bytes)
        }
        if ip.family == .ipv4 { length = socklen_t(MemoryLayout<sockaddr_in>.size) }
        let bound = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, length) == 0 && getsockname(descriptor, address, &length) == 0
            }
        }
        guard bound else { throw SetupError.last("bind") }
        if transport == .tcp, listens, listen(descriptor, 1) != 0 { throw SetupError.last("listen") }
        // The port lies at the same place in both structures.
        return (descriptor, UInt16(bigEndian: storage.sin6_port))
    }

    /// Connects to a port on `127.0.0.1`.
    func connect(to port: UInt16) throws {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, length) == 0 }
        }
        guard connected else { throw SetupError.last("connect") }
    }

    deinit { close(descriptor) }
}

@Suite(.enabled(if: geteuid() == 0, "a network namespace takes root"))
struct ListenerTests {
    @Test(arguments: ListenerTransport.allCases)
    func `a socket accepts the families that it is bound for`(transport: ListenerTransport) throws {
        try inNewNamespace {
            try shell("ip link set lo up")
            var netlink = try SocketDiagnosisNetlink()
            #expect(try netlink.listeners(on: 1...65535, transport: transport).isEmpty)
            let cases: [(address: String, ipv6Only: Bool, listed: String, ipv4: Bool, ipv6: Bool)] = [
                ("0.0.0.0", false, "0.0.0.0", true, false),
                ("127.0.0.1", false, "127.0.0.1", true, false),
                ("::", false, "::", true, true),
                ("::", true, "::", false, true),
                ("::1", false, "::1", false, true),
            ]
            for (address, ipv6Only, listed, ipv4, ipv6) in cases {
                let socket = try TestSocket(transport, address, ipv6Only: ipv6Only)
                let port = socket.port
                let found = try netlink.listeners(on: port...port, transport: transport)
                #expect(found.count == 1)
                #expect(found.first?.address.description == listed)
                #expect(found.first?.port == port)
                #expect(found.first?.acceptsIPv4 == ipv4)
                #expect(found.first?.acceptsIPv6 == ipv6)
                #expect(found.first?.interfaceIndex == nil)
                for (family, isListed) in [(IPFamily.ipv4, ipv4), (.ipv6, ipv6)] {
                    let found = try netlink.listeners(on: port...port, transport: transport, family: family)
                    #expect(found.count == (isListed ? 1 : 0))
                }
                if port > 1 {
                    #expect(try netlink.listeners(on: 1...(port - 1), transport: transport).isEmpty)
                }
                let other: ListenerTransport = transport == .tcp ? .udp : .tcp
                #expect(try netlink.listeners(on: 1...65535, transport: other).isEmpty)
            }
        }
    }

    @Test func `a bound TCP socket that does not listen is not listed`() throws {
        try inNewNamespace {
            let socket = try TestSocket(.tcp, "0.0.0.0", listens: false)
            var netlink = try SocketDiagnosisNetlink()
            #expect(socket.port != 0)
            #expect(try netlink.listeners(on: 1...65535, transport: .tcp).isEmpty)
        }
    }

    @Test func `connected sockets are not listed`() throws {
        try inNewNamespace {
            try shell("ip link set lo up")
            var netlink = try SocketDiagnosisNetlink()
            for transport in ListenerTransport.allCases {
                let server = try TestSocket(transport, "127.0.0.1")
                let client = try TestSocket(transport, "127.0.0.1", listens: false)
                try client.connect(to: server.port)
                #expect(try netlink.listeners(on: 1...65535, transport: transport).map(\.port) == [server.port])
                #expect(client.port != server.port)
            }
        }
    }

    @Test func `a socket bound to an interface says which`() throws {
        try inNewNamespace {
            let socket = try TestSocket(.udp, "0.0.0.0", device: "lo")
            var netlink = try SocketDiagnosisNetlink()
            let found = try netlink.listeners(on: socket.port...socket.port, transport: .udp)
            #expect(found.map(\.interfaceIndex) == [1])
        }
    }
}
