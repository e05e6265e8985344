internal import Glibc

/// What fastnat needs of the process and the kernel before it begins.
enum Requirements {
    /// CAP_NET_ADMIN, CAP_SYS_ADMIN (for the bpf file system), CAP_PERFMON and CAP_BPF, by `<linux/capability.h>`.
    private static let capabilities = [12, 21, 38, 39]

    /// `bpf_xdp_get_buff_len`; `bpf_loop` came one version before it.
    private static let oldestKernel = (5, 18)

    static func check() throws(FastNATError) {
        guard capabilities.allSatisfy(hasCapability) else { throw .notPermitted }
        try check(kernel: kernelVersion())
    }

    /// Throws `.kernelTooOld` for a version that lacks something; nil is one that cannot be read.
    static func check(kernel version: (Int, Int)?) throws(FastNATError) {
        guard let version, version >= oldestKernel else {
            throw .kernelTooOld(missing: "bpf_loop and bpf_xdp_get_buff_len (Linux 5.18)")
        }
    }

    /// Major and minor number of the running kernel.
    static func kernelVersion() -> (Int, Int)? {
        var name = utsname()
        guard uname(&name) == 0 else { return nil }
        let release = withUnsafeBytes(of: name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        return numbers.count == 2 ? (numbers[0], numbers[1]) : nil
    }
}
