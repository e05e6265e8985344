internal import CLibbpf
internal import Glibc

/// The name by which the map is found that holds the global variables of an object's programs (section `.bss`).
public let variablesMap = "variables"

/// The map of an object by its name, or nil.
private func findMap(_ name: String, in object: OpaquePointer) -> OpaquePointer? {
    bpf_object__find_map_by_name(object, name == variablesMap ? ".bss" : name)
}

/// A compiled BPF object before the kernel has seen it: sizes and constants can still be set.
public struct ObjectImage: ~Copyable {
    /// Makes the maps, and where there are no others, loads the programs.
    private let object: OpenedObject
    /// Copies on the same maps, each of which loads a part of the programs.
    private let loaders: [OpenedObject]

    /// Opens an ELF image in memory. `name` appears in messages only. `threads`: how many load programs at a time; nearly all of
    /// it is the verifier's work, which knows no locks.
    public init(_ image: UnsafeRawBufferPointer, name: String, threads: Int = 1) throws(BPFError) {
        libbpf_set_print(nil)  // its talk goes to stderr; ours is in the errors
        let copies = threads > 1 ? threads : 0
        var opened: [OpenedObject] = []
        for _ in 0..<copies { opened.append(try OpenedObject(image, name: name)) }
        let last = try OpenedObject(image, name: name)
        object = last
        loaders = opened
    }

    private func map(_ name: String) throws(BPFError) -> OpaquePointer {
        guard let map = findMap(name, in: object.pointer) else {
            throw BPFError("find the map \(name) in the BPF object", result: -ENOENT)
        }
        return map
    }

    /// Sets how many entries a map will have.
    public mutating func setCapacity(of name: String, _ entries: UInt32) throws(BPFError) {
        try check(bpf_map__set_max_entries(try map(name), entries), "size the map \(name)")
    }

    /// Uses an existing map in place of a new one.
    public mutating func reuse(_ descriptor: borrowing Descriptor, as name: String) throws(BPFError) {
        try check(bpf_map__reuse_fd(try map(name), descriptor.number), "reuse the map \(name)")
    }

    /// Sets the read-only data of a section: all of it, as one value.
    public mutating func setConstants<Constants: BitwiseCopyable>(
        _ constants: Constants, in section: String = ".rodata"
    ) throws(BPFError) {
        guard let map = (try? self.map(section)) ?? (try? self.map("datapath" + section)) else {
            throw BPFError("find the constants of the BPF object", result: -ENOENT)
        }
        var constants = constants
        try check(
            bpf_map__set_initial_value(map, &constants, MemoryLayout<Constants>.size),
            "set the constants of the programs")
    }

    /// Has the programs call a function of the kernel (`KernelTypes.function`) wherever they call the helper of an unused
    /// number. libbpf could find the function, but would refuse the object where the kernel does not describe its types.
    public mutating func replaceHelper(_ placeholder: UInt32, byKernelFunction function: Int32) throws(BPFError) {
        for program in (loaders + [object]).flatMap(\.programs) {
            var code = Array(
                UnsafeBufferPointer(start: bpf_program__insns(program), count: bpf_program__insn_cnt(program)))
            let calls = code.indices.filter { index in
                let instruction = code[index]
                return instruction.code == UInt8(BPF_JMP | BPF_CALL) && instruction.src_reg == 0
                    && UInt32(bitPattern: instruction.imm) == placeholder
            }
            for index in calls {
                code[index].src_reg = UInt8(BPF_PSEUDO_KFUNC_CALL)
                code[index].imm = function
            }
            if !calls.isEmpty {
                try check(bpf_program__set_insns(program, &code, code.count), "change the BPF programs")
            }
        }
    }

    /// Makes the maps that are not reused, and has the kernel verify and load every program.
    public consuming func load() throws(BPFError) -> LoadedObject {
        if !loaders.isEmpty { object.leavePrograms(to: loaders) }
        try object.load()
        for loader in loaders { try loader.reuseMaps(of: object) }
        let loaders = loaders
        try inParallel(loaders.count) { index throws(BPFError) in try loaders[index].load() }
        return LoadedObject([object] + loaders)
    }
}

/// What libbpf has opened, and the verifier's log.
private final class OpenedObject: @unchecked Sendable {  // each is used by one thread at a time
    let pointer: OpaquePointer
    private let log: UnsafeMutableBufferPointer<CChar>

    init(_ image: UnsafeRawBufferPointer, name: String) throws(BPFError) {
        // Large enough for the log of any of our programs on success or failure; untouched pages cost nothing.
        let log = UnsafeMutableBufferPointer<CChar>.allocate(capacity: 8 << 20)
        log[0] = 0
        let opened = name.withCString { name in
            withOptions(bpf_object_open_opts.self) { options in
                options.pointee.object_name = name
                options.pointee.kernel_log_buf = log.baseAddress
                options.pointee.kernel_log_size = log.count
                return bpf_object__open_mem(image.baseAddress, image.count, options)
            }
        }
        guard let opened else {
            let code = errno
            log.deallocate()
            throw BPFError("read the BPF object \(name)", result: -code)
        }
        self.log = log
        pointer = opened
    }

    var programs: [OpaquePointer] {
        Array(
            sequence(state: nil as OpaquePointer?) { [pointer] current in
                current = bpf_object__next_program(pointer, current)
                return current
            })
    }

    /// Shares them out by their lengths, the longest first.
    func leavePrograms(to loaders: [OpenedObject]) {
        for program in programs { bpf_program__set_autoload(program, false) }
        let parts = loaders.map(\.programs)
        var lengths = loaders.map { _ in 0 }
        let byLength = programs.indices.map { ($0, bpf_program__insn_cnt(programs[$0])) }.sorted { $0.1 > $1.1 }
        for (index, length) in byLength {
            let loader = lengths.indices.min { lengths[$0] < lengths[$1] } ?? 0
            lengths[loader] += length
            for other in parts.indices { bpf_program__set_autoload(parts[other][index], other == loader) }
        }
    }

    /// Constants and variables among them.
    func reuseMaps(of other: OpenedObject) throws(BPFError) {
        var (own, its): (OpaquePointer?, OpaquePointer?) = (nil, nil)
        while true {
            own = bpf_object__next_map(pointer, own)
            its = bpf_object__next_map(other.pointer, its)
            guard let own, let its else { return }
            try check(bpf_map__reuse_fd(own, bpf_map__fd(its)), "share the maps of the BPF object")
        }
    }

    func load() throws(BPFError) {
        let result = bpf_object__load(pointer)
        guard result == 0 else {
            let text = log.baseAddress.map { String(cString: $0) } ?? ""
            throw BPFError("load the BPF programs", result: result, verifierLog: text.isEmpty ? nil : text)
        }
    }

    deinit {
        log.deallocate()
        bpf_object__close(pointer)
    }
}

/// A BPF object in the kernel. Its programs and maps live as long as it does, or something else holds them.
public struct LoadedObject: ~Copyable {
    /// All have the same maps, each some of the programs.
    private let objects: [OpenedObject]

    fileprivate init(_ objects: [OpenedObject]) {
        self.objects = objects
    }

    /// A descriptor of a program, by its function's name.
    public func program(_ name: String) throws(BPFError) -> Descriptor {
        let numbers = objects.map { object in
            bpf_object__find_program_by_name(object.pointer, name).map { bpf_program__fd($0) } ?? -ENOENT
        }
        return try duplicate(numbers.max() ?? -ENOENT, "the program \(name)")
    }

    /// A descriptor of a map, by its name.
    public func map(_ name: String) throws(BPFError) -> Descriptor {
        let map = objects.first.flatMap { findMap(name, in: $0.pointer) }
        return try duplicate(map.map { bpf_map__fd($0) } ?? -ENOENT, "the map \(name)")
    }

    private func duplicate(_ number: Int32, _ what: String) throws(BPFError) -> Descriptor {
        try check(number, "find \(what) in the BPF object")
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw BPFError("open \(what)", result: -errno) }
        return Descriptor(owning: copy)
    }
}
