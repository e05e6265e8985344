internal import BPF
import Lab
import Synchronization

/// The kernel's routing: nothing is published, clients send to the container's address.
struct RoutingPath: PublishingPath {
    let name = PathKind.routing.rawValue

    func start() throws(TestingError) {}
    func publish(_: UInt16, to _: Packet.Endpoint, _: TransportProtocol) throws(TestingError) {}
    func unpublish(_: UInt16, to _: Packet.Endpoint, _: TransportProtocol) throws(TestingError) {}
    func stop() throws(TestingError) {}
}

/// Programs that redirect between the uplink and the container's veth. Neighbours have to be told each other's MAC
/// addresses, as if the host were a wire (`Stage`).
final class RedirectPath: PublishingPath {
    let name: String
    private let topology: Topology
    private let kind: PathKind
    private let records: UInt32
    private let attachments = Mutex<[Attachment]>([])

    /// `flows`: how many flows a table has room for, where the path has one.
    init(_ topology: Topology, _ kind: PathKind, flows: Int) {
        name = kind.rawValue
        self.topology = topology
        self.kind = kind
        records = kind.isBare ? UInt32(flows).powerOfTwo : 2
    }

    func start() throws(TestingError) {
        let (host, uplink, port) = (topology.host, topology.uplinks[0], topology.containerPort())
        let programs = try asTestingError { () throws(BenchError) in
            try BenchPrograms(
                uplink: try host.interfaceIndex(of: uplink), containerSide: try host.interfaceIndex(of: port),
                records: records)
        }
        let made = try asTestingError { () throws(BenchError) in
            let first: (program: String, point: AttachPoint) =
                switch kind {
                case .redirectXDP: ("bench_redirect_xdp", .xdp)
                case .redirectPeer: ("bench_redirect_peer_uplink", .tcx(.ingress))
                case .bareXDP: ("bench_bare_xdp", .xdp)
                case .bareTC: ("bench_bare_tc", .tcx(.ingress))
                default: ("bench_redirect_tc_uplink", .tcx(.ingress))
                }
            let second = kind.isBare ? "bench_bare_tc_container" : "bench_redirect_tc_container"
            return [
                try Attachment(programs.program(first.program), to: uplink, of: host, at: first.point),
                try Attachment(programs.program(second), to: port, of: host, at: .tcx(.ingress)),
            ]
        }
        attachments.withLock { $0 = made }
    }

    /// What is attached, the uplink's first.
    var attached: [Attachment] { attachments.withLock { $0 } }

    func publish(_: UInt16, to _: Packet.Endpoint, _: TransportProtocol) throws(TestingError) {}
    func unpublish(_: UInt16, to _: Packet.Endpoint, _: TransportProtocol) throws(TestingError) {}
    func stop() throws(TestingError) { attachments.withLock { $0 = [] } }
}

extension UInt32 {
    /// The least power of two that is not below.
    fileprivate var powerOfTwo: UInt32 { self < 2 ? 1 : 1 << UInt32(UInt32.bitWidth - (self - 1).leadingZeroBitCount) }
}

/// The protocol of paths knows one type of errors.
private func asTestingError<R>(_ body: () throws(BenchError) -> R) throws(TestingError) -> R {
    do throws(BenchError) {
        return try body()
    } catch {
        if case .lab(let error) = error { throw error }
        throw .malformed(error.description)
    }
}
