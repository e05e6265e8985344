internal import Addresses
internal import Glibc
internal import Netlink

/// The ports on which programs of this network namespace listen.
struct LocalListeners {
    private let listeners: [TransportProtocol: [Listener]]

    init() throws(FastNATError) {
        do throws(NetlinkError) {
            var socket = try SocketDiagnosisNetlink()
            listeners = [
                .tcp: try socket.listeners(on: 1...UInt16.max, transport: .tcp),
                .udp: try socket.listeners(on: 1...UInt16.max, transport: .udp),
            ]
        } catch .system(_, let code) where code == ENOENT {
            throw .listenersUnknown
        } catch {
            throw .netlink(error)
        }
    }

    /// Throws `.portInUse` when a mapping would shadow a local program: silently taking over sshd's port is the classic trap.
    ///
    /// - Parameter isStandIn: whether the socket of this inode only stands in for the mapping.
    func refuseShadowing(by mapping: PortMapping, except isStandIn: (UInt32) -> Bool = { _ in false })
        throws(FastNATError)
    {
        for listener in listeners[mapping.listen.transport] ?? []
        where mapping.listen.ports.contains(listener.port) && isShadowed(listener, by: mapping)
            && !isStandIn(listener.inode)
        {
            throw .portInUse(mapping.listen, port: listener.port, by: listener.address)
        }
    }

    /// A listener on a loopback address is never reached through an uplink, and keeps its port on the host from a mapping
    /// that does not name the same address.
    private func isShadowed(_ listener: Listener, by mapping: PortMapping) -> Bool {
        guard listener.accepts(mapping.family) else { return false }
        if listener.address.isLoopback { return mapping.listen.address == listener.address }
        guard let published = mapping.listen.address, !listener.address.isUnspecified else { return true }
        return published == listener.address
    }
}
