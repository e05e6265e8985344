import Lab
import Synchronization

/// Docker's userland proxy: one process for each published port, which Docker starts beside its rules.
final class DockerProxyPath: PublishingPath {
    let name = PathKind.dockerProxy.rawValue
    private let host: NetworkNamespace
    private let address: Packet.Address
    private let proxies = Mutex<[String: ChildProcess]>([:])

    init(_ topology: Topology) {
        host = topology.host
        address = topology.hostAddress(.v4)
    }

    func start() throws(TestingError) {}

    func publish(
        _ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol
    ) throws(TestingError) {
        let proxy = try host.spawn([
            // Docker hands over a pipe as descriptor 3 and waits for a word on it; nothing is read from it here.
            "sh", "-c", "exec docker-proxy \"$@\" 3>/dev/null", "sh",
            "-proto", transport.rawValue, "-host-ip", address.description, "-host-port", "\(port)",
            "-container-ip", container.address.description, "-container-port", "\(container.port)",
        ])
        try host.waitUntil(listening: port, transport, by: proxy)
        proxies.withLock { $0["\(transport)\(port)"] = proxy }
    }

    func unpublish(
        _ port: UInt16, to container: Packet.Endpoint, _ transport: TransportProtocol
    ) throws(TestingError) {
        proxies.withLock { _ = $0.removeValue(forKey: "\(transport)\(port)") }
    }

    func stop() throws(TestingError) { proxies.withLock { $0.removeAll() } }
}
