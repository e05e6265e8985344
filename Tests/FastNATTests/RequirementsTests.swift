import Testing

@testable import FastNAT

@Suite("What fastnat needs of the kernel") struct RequirementsTests {
    @Test("an older kernel is refused, and what it lacks is named", arguments: [(5, 17), (5, 4), (4, 19), (2, 6), nil])
    func tooOld(version: (Int, Int)?) throws {
        let error = #expect(throws: FastNATError.self) { try Requirements.check(kernel: version) }
        #expect(
            error?.description == "this kernel is too old: it lacks bpf_loop and bpf_xdp_get_buff_len (Linux 5.18)")
    }

    @Test("kernels from 5.18 on are taken", arguments: [(5, 18), (5, 19), (6, 1), (6, 18), (10, 0)])
    func recent(version: (Int, Int)) throws {
        try Requirements.check(kernel: version)
    }
}
