internal import BPF
internal import CBench
internal import Glibc
internal import Lab

/// One copy of the benchmark's BPF object in the kernel (bpf/bench): maps of its own for each path that is measured.
final class BenchPrograms {
    private let object: LoadedObject
    private let traffic: Map<UInt32, bench_traffic>
    private let expectations: Map<UInt32, bench_expectation>
    private let counts: PerCPUMap<bench_count>
    private let drivenXDP: Map<UInt32, Int32>
    private let drivenTC: Map<UInt32, Int32>
    /// Counts what arrives at a socket.
    let socketFilter: Descriptor

    /// Loads it. The indices of the host's interfaces matter to the limits alone, `records`, a power of two, to those that look
    /// up.
    init(uplink: UInt32 = 0, containerSide: UInt32 = 0, records: UInt32 = 2) throws(BenchError) {
        var size = 0
        let start = cbench_object(&size)
        do throws(BPFError) {
            var image = try ObjectImage(UnsafeRawBufferPointer(start: start, count: size), name: "bench")
            // As many buckets as fastnat has for so many flows.
            let buckets = max(1, records / 2)
            try image.setConstants(
                bench_limits(
                    uplink: uplink, container_side: containerSide, bucket_mask: buckets - 1, record_mask: records - 1))
            try image.setCapacity(of: "lookup_index", buckets)
            try image.setCapacity(of: "lookup_records", records)
            object = try image.load()
            traffic = try Map(object.map("traffic"), name: "traffic")
            expectations = try Map(object.map("expectations"), name: "expectations")
            counts = try PerCPUMap(object.map("counts"), name: "counts")
            drivenXDP = try Map(object.map("driven_xdp"), name: "driven_xdp")
            drivenTC = try Map(object.map("driven_tc"), name: "driven_tc")
            socketFilter = try object.program("bench_sink_socket")
        } catch {
            throw .bpf(error)
        }
    }

    /// A program by its function's name.
    func program(_ name: String) throws(BenchError) -> Descriptor {
        do throws(BPFError) { return try object.program(name) } catch { throw .bpf(error) }
    }

    func send(_ value: bench_traffic, _ direction: bench_direction) throws(BenchError) {
        try bpf { () throws(BPFError) in try traffic.set(direction.rawValue, value) }
    }

    func expect(_ value: bench_expectation, _ direction: bench_direction) throws(BenchError) {
        try bpf { () throws(BPFError) in try expectations.set(direction.rawValue, value) }
    }

    /// The program that a drive hands its frames to, from now on.
    func drive(_ program: borrowing Descriptor, atXDP: Bool) throws(BenchError) {
        let number = program.number
        try bpf { () throws(BPFError) in
            if atXDP { try drivenXDP.set(0, number) } else { try drivenTC.set(0, number) }
        }
    }

    /// What has arrived in one direction so far.
    func count(_ direction: bench_direction) throws(BenchError) -> (arrived: UInt64, wrong: UInt64) {
        let values = try bpf { () throws(BPFError) in try counts.values(direction.rawValue) }
        return values.reduce(into: (0, 0)) { sum, value in
            sum.arrived += value.arrived
            sum.wrong += value.wrong
        }
    }

    /// Forgets what has been counted in one direction; its generator goes on as if it had generated so many.
    func reset(_ direction: bench_direction, generated: UInt64 = 0) throws(BenchError) {
        var count = bench_count()
        count.generated = generated
        try bpf { () throws(BPFError) in try counts.setAll(direction.rawValue, count) }
    }
}

/// A program on an interface, until this object goes.
final class Attachment: Sendable {
    let link: BPFLink

    init(
        _ program: borrowing Descriptor, to interface: String, of namespace: NetworkNamespace, at point: AttachPoint
    ) throws(BenchError) {
        let index = try namespace.interfaceIndex(of: interface)
        let number = try Attachment.attach(program, index, namespace, point)
        link = BPFLink(Descriptor(owning: number))
    }

    /// In the namespace, because that is where the kernel looks for the index. The link's own descriptor goes with the thread.
    private static func attach(
        _ program: borrowing Descriptor, _ index: UInt32, _ namespace: NetworkNamespace, _ point: AttachPoint
    ) throws(BenchError) -> Int32 {
        let program = program.number
        return try namespace.inside { () throws(BenchError) in
            do throws(BPFError) {
                let borrowed = Descriptor(owning: dup(program))
                let link = try BPFLink(program: borrowed, interfaceIndex: index, at: point)
                return dup(link.descriptor.number)
            } catch {
                throw .bpf(error)
            }
        }
    }
}

extension NetworkNamespace {
    /// The number of an interface in this namespace.
    func interfaceIndex(of name: String) throws(BenchError) -> UInt32 {
        try inside { () throws(BenchError) in
            let index = if_nametoindex(name)
            if index == 0 { throw .wrong("there is no interface \(name) in \(self.name)") }
            return index
        }
    }
}
