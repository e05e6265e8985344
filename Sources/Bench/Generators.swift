internal import BPF
internal import CBench
internal import Glibc
internal import Lab

/// The programs that generate frames (bpf/bench), one copy for all paths of a run.
///
/// Each is attached where no packet comes by. The kernel calls attached XDP programs directly, by code that it writes anew when
/// there is one more or one less, and waits for all CPUs each time; a test run of a program that is not attached makes it do so
/// when it begins and when it ends, which takes as long as a turn.
final class Generators {
    private let programs: BenchPrograms
    private let client: Descriptor
    private let container: Descriptor
    private let namespace: NetworkNamespace
    private let attachments: [Attachment]

    init() throws(BenchError) {
        programs = try BenchPrograms()
        client = try programs.program("bench_client")
        container = try programs.program("bench_container")
        namespace = try lab { () throws(TestingError) in
            let namespace = try NetworkNamespace("generators")
            try namespace.ip(["link add client type veth peer name container"])
            return namespace
        }
        attachments = [
            try Attachment(client, to: "client", of: namespace, at: .xdp),
            try Attachment(container, to: "container", of: namespace, at: .xdp),
        ]
    }

    /// What is sent in one direction from now on, as if `generated` frames of it had been sent before.
    func prepare(_ traffic: bench_traffic, _ direction: bench_direction, generated: UInt64 = 0) throws(BenchError) {
        try programs.send(traffic, direction)
        try programs.reset(direction, generated: generated)
    }

    /// Sends so many frames from the calling thread, which is in the sender's namespace, or fewer where a signal comes.
    func send(_ direction: bench_direction, count: Int32) throws(BenchError) {
        let length = Int(BENCH_FRAME_SIZE)
        do throws(BPFError) {
            if direction == BENCH_TO_CONTAINER {
                try client.sendFrames(length: length, count: count)
            } else {
                try container.sendFrames(length: length, count: count)
            }
        } catch {
            if error.code != EINTR { throw .bpf(error) }
        }
    }
}
