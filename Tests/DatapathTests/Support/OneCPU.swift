import Glibc
import Testing

/// Runs `body` on the CPU that the calling thread is on: each has its own cursor into the table's places, and a thread that is
/// moved goes on at another one.
func onOneCPU<Result>(_ body: () throws -> Result) throws -> Result {
    var allowed = cpu_set_t()
    let size = MemoryLayout<cpu_set_t>.size
    try #require(sched_getaffinity(0, size, &allowed) == 0)
    var one = cpu_set_t()
    let cpu = Int(sched_getcpu())
    withUnsafeMutableBytes(of: &one) { $0[cpu / 8] = 1 << UInt8(cpu % 8) }
    try #require(sched_setaffinity(0, size, &one) == 0)
    defer { sched_setaffinity(0, size, &allowed) }
    return try body()
}
