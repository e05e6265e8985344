import CLibbpf
import Glibc

/// The kinds of objects that bpf(2) gives ids.
enum KernelObject: String, CustomStringConvertible {
    case link, map, program

    var description: String { rawValue }

    /// Whether the object with this id is there.
    ///
    /// Without a descriptor of it: one of a map that comes and goes while the kernel clears a map of programs (Linux 6.18,
    /// `prog_array_map_clear`) costs a reference that nobody gives back, and the empty map stays for good.
    func exists(_ id: Int) throws(TestingError) -> Bool {
        try next(after: UInt32(id - 1)) == UInt32(id)
    }

    private func next(after id: UInt32) throws(TestingError) -> UInt32? {
        var next: UInt32 = 0
        let result =
            switch self {
            case .link: bpf_link_get_next_id(id, &next)
            case .map: bpf_map_get_next_id(id, &next)
            case .program: bpf_prog_get_next_id(id, &next)
            }
        if result == -ENOENT { return nil }
        guard result == 0 else { throw .system(call: "BPF_\(rawValue.uppercased())_GET_NEXT_ID", errno: -result) }
        return next
    }

    /// What `inspect` makes of a descriptor of each object that is there; objects that go meanwhile are left out.
    private func all<R>(
        _ open: (UInt32) -> Int32, _ inspect: (Int32) throws(TestingError) -> R?
    ) throws(TestingError) -> [R] {
        var found: [R] = []
        var id: UInt32 = 0
        while let next = try next(after: id) {
            id = next
            let descriptor = open(id)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            if let value = try inspect(descriptor) { found.append(value) }
        }
        return found
    }

    /// Every program, with the maps that it uses. bpftool would open those maps.
    static func programs() throws(TestingError) -> [(id: Int, maps: [Int])] {
        try program.all(bpf_prog_get_fd_by_id) { descriptor throws(TestingError) in
            try withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { maps throws(TestingError) in
                var info = bpf_prog_info()
                info.nr_map_ids = UInt32(maps.count)
                info.map_ids = UInt64(UInt(bitPattern: maps.baseAddress))
                var size = UInt32(MemoryLayout<bpf_prog_info>.size)
                let result = bpf_obj_get_info_by_fd(descriptor, &info, &size)
                guard result == 0 else { throw .system(call: "BPF_OBJ_GET_INFO_BY_FD", errno: -result) }
                return (Int(info.id), maps.prefix(Int(info.nr_map_ids)).map(Int.init))
            }
        }
    }

    /// Every link, with its program.
    static func links() throws(TestingError) -> [(id: Int, program: Int)] {
        try link.all(bpf_link_get_fd_by_id) { descriptor throws(TestingError) in
            var info = bpf_link_info()
            var size = UInt32(MemoryLayout<bpf_link_info>.size)
            guard bpf_obj_get_info_by_fd(descriptor, &info, &size) == 0 else { return nil }
            return (Int(info.id), Int(info.prog_id))
        }
    }
}
