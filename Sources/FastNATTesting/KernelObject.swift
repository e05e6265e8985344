import CLibbpf
import Glibc

/// The kinds of objects that bpf(2) gives ids.
enum KernelObject: String, CustomStringConvertible {
    case link, map, program

    var description: String { rawValue }

    /// Whether the object with this id is there.
    ///
    /// Without a descriptor of it: one that comes and goes while the kernel clears a map of programs (Linux 6.18,
    /// `prog_array_map_clear`) costs a reference that nobody gives back, and the empty map stays for good.
    func exists(_ id: Int) throws(TestingError) -> Bool {
        var next: UInt32 = 0
        let before = UInt32(id - 1)
        let result =
            switch self {
            case .link: bpf_link_get_next_id(before, &next)
            case .map: bpf_map_get_next_id(before, &next)
            case .program: bpf_prog_get_next_id(before, &next)
            }
        if result == -ENOENT { return false }
        guard result == 0 else { throw .system(call: "BPF_\(rawValue.uppercased())_GET_NEXT_ID", errno: -result) }
        return next == id
    }
}
