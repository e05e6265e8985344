internal import CLibbpf
internal import Glibc

/// An open file descriptor of a BPF object, closed when it goes out of scope.
public struct Descriptor: ~Copyable, Sendable {
    /// The number, valid as long as the value lives.
    public let number: Int32

    /// Takes over an open descriptor.
    public init(owning number: Int32) {
        self.number = number
    }

    /// Opens what is pinned at `path`.
    public init(pinnedAt path: String) throws(BPFError) {
        number = try check(bpf_obj_get(path), "open the pinned object \(path)")
    }

    /// Pins the object at `path`, in a bpf file system. Fails with EEXIST where something is.
    public func pin(at path: String) throws(BPFError) {
        try check(bpf_obj_pin(number, path), "pin an object at \(path)")
    }

    /// A second descriptor of the same object.
    public func duplicate() throws(BPFError) -> Descriptor {
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw BPFError("duplicate a descriptor", result: -errno) }
        return Descriptor(owning: copy)
    }

    deinit {
        close(number)
    }
}
