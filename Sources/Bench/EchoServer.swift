internal import CBench
internal import Glibc
internal import Lab

/// A server in a namespace that answers messages with themselves, over TCP and UDP, until this object goes.
final class EchoServer {
    private let server: OpaquePointer

    /// Listens on `port`. `closes`: TCP connections after one answer; `spins`: it never sleeps; `cpu`: the one it keeps to.
    init(
        in namespace: NetworkNamespace, port: UInt16, closes: Bool = false, spins: Bool = false, cpu: Int32? = nil
    ) throws(BenchError) {
        server = try namespace.inside { () throws(BenchError) in
            guard let server = cbench_server_start(port, closes, spins, cpu ?? Int32(CBENCH_ANY_CPU)) else {
                throw .wrong("cannot listen on port \(port): \(errnoText())")
            }
            return server
        }
    }

    deinit { cbench_server_stop(server) }
}

/// The text of errno.
func errnoText() -> String { String(cString: strerror(errno)) }
