import FastNATTesting
import Glibc
import Testing

@testable import FastNAT

/// Sockets of the host keep their ports: no container gets one that a socket would take the replies of.
@Suite struct HostSocketTests {
    /// A socket that has port 40000 of the host.
    enum Owner: String, CaseIterable {
        case listening, bound, connected
    }

    static let cases = Family.allCases.flatMap { family in Owner.allCases.map { (family, $0) } }

    @Test(arguments: cases)
    func `a container gets another port than a socket has`(family: Family, owner: Owner) throws {
        let datapath = try TestDatapath([], network: TestNetwork())
        try datapath.masquerade(family, to: family.host)
        let transport = owner == .bound ? Transport.udp : .tcp
        let outbound = Outbound(family, transport)
        let socket = try HostSocket(owner, outbound, in: datapath)
        #expect(try datapath.open(outbound).external.port != 40_000)
        // Towards another server a connected socket has no claim to the port.
        let elsewhere = outbound.with { $0.server.port += 1 }
        #expect(try (datapath.open(elsewhere).external.port == 40_000) == (owner == .connected))
        _ = consume socket
    }

    @Test(arguments: cases)
    func `with a socket on every port of the range, the packet is dropped`(family: Family, owner: Owner) throws {
        let datapath = try TestDatapath([], network: TestNetwork())
        try datapath.masquerade(family, to: family.host, ports: 40_000...40_000)
        let outbound = Outbound(family, owner == .bound ? .udp : .tcp)
        let socket = try HostSocket(owner, outbound, in: datapath)
        try datapath.expectReported(
            outbound.request(.syn), as: .prohibited, on: .container, counting: "no_free_port")
        #expect(try datapath.states() == [])
        _ = consume socket
        _ = try datapath.open(outbound)
    }

    @Test(arguments: Family.allCases)
    func `a socket that binds the port of an endpoint gets it, and the endpoint another`(family: Family) throws {
        let datapath = try TestDatapath([], network: TestNetwork())
        try datapath.masquerade(family, to: family.host, .endpointIndependent(.endpoint))
        let outbound = Outbound(family, .udp)
        #expect(try datapath.open(outbound).external.port == 40_000)
        let socket = try HostSocket(.bound, outbound, in: datapath)
        let stranger = outbound.with { $0.server.port = 9_999 }
        try datapath.expectPassed(stranger.reply(), on: .uplink)
        let second = try datapath.open(outbound.with { $0.server.port += 1 })
        #expect(second.external.port != 40_000)
        _ = consume socket
    }
}

/// A socket in the host's namespace, closed when it goes.
struct HostSocket: ~Copyable {
    private let descriptor: Int32

    init(_ owner: HostSocketTests.Owner, _ outbound: Outbound, in datapath: TestDatapath) throws {
        let server = outbound.server
        descriptor = try datapath.network.namespace.run { () throws(TestingError) in
            let family = server.address.isIPv6 ? AF_INET6 : AF_INET
            let type =
                Int32((owner == .bound ? SOCK_DGRAM : SOCK_STREAM).rawValue | SOCK_NONBLOCK.rawValue)
                | Int32(SOCK_CLOEXEC.rawValue)  // or a program that another test starts meanwhile keeps it open
            let descriptor = socket(family, type, 0)
            let local: Packet.Address = server.address.isIPv6 ? "2001:db8:1::1" : "192.0.2.1"
            guard Self.call(bind, descriptor, Packet.Endpoint(local, port: 40_000)) == 0 else {
                throw .system(call: "bind", errno: errno)
            }
            if owner == .listening, listen(descriptor, 1) != 0 { throw .system(call: "listen", errno: errno) }
            if owner == .connected, Self.call(connect, descriptor, server) != 0, errno != EINPROGRESS {
                throw .system(call: "connect", errno: errno)
            }
            return descriptor
        }
    }

    deinit { close(descriptor) }

    private static func call(
        _ function: (Int32, UnsafePointer<sockaddr>?, socklen_t) -> Int32, _ descriptor: Int32,
        _ endpoint: Packet.Endpoint
    ) -> Int32 {
        let port = endpoint.port.bigEndian
        var bytes = withUnsafeBytes(of: sa_family_t(endpoint.address.isIPv6 ? AF_INET6 : AF_INET)) { Array($0) }
        bytes += withUnsafeBytes(of: port) { Array($0) }
        if endpoint.address.isIPv6 { bytes += [0, 0, 0, 0] }  // flow label
        bytes += endpoint.address.bytes
        bytes += [UInt8](repeating: 0, count: endpoint.address.isIPv6 ? 4 : 8)
        return bytes.withUnsafeBytes {
            function(descriptor, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
        }
    }
}
