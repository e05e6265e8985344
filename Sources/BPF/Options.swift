/// Gives `body` an options structure of libbpf, all zero but for its size, which stands first in each of them.
///
/// libbpf refuses a structure with anything in bytes that it does not know, and takes the padding at the end for such. Swift
/// does not keep padding zero when it copies a value: so the structure stays in one place, and fields are set there.
func withOptions<Options, Result>(
    _ type: Options.Type, _ body: (UnsafeMutablePointer<Options>) throws -> Result
) rethrows -> Result {
    let size = MemoryLayout<Options>.size
    return try withUnsafeTemporaryAllocation(byteCount: size, alignment: MemoryLayout<Options>.alignment) { memory in
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        memory.storeBytes(of: size, as: Int.self)
        guard let start = memory.baseAddress else { preconditionFailure("an options structure is never empty") }
        return try body(start.assumingMemoryBound(to: Options.self))
    }
}
