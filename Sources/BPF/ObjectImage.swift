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
    private let object: OpaquePointer
    private let log: UnsafeMutableBufferPointer<CChar>

    /// Opens an ELF image in memory. `name` appears in messages only.
    public init(_ image: UnsafeRawBufferPointer, name: String) throws(BPFError) {
        libbpf_set_print(nil)  // its talk goes to stderr; ours is in the errors
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
        object = opened
    }

    private func map(_ name: String) throws(BPFError) -> OpaquePointer {
        guard let map = findMap(name, in: object) else {
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
        var program = bpf_object__next_program(object, nil)
        while let current = program {
            var code = Array(
                UnsafeBufferPointer(start: bpf_program__insns(current), count: bpf_program__insn_cnt(current)))
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
                try check(bpf_program__set_insns(current, &code, code.count), "change the BPF programs")
            }
            program = bpf_object__next_program(object, current)
        }
    }

    /// Makes the maps that are not reused, and has the kernel verify and load every program.
    public consuming func load() throws(BPFError) -> LoadedObject {
        let (object, log) = (object, log)
        discard self
        defer { log.deallocate() }
        let result = bpf_object__load(object)
        guard result == 0 else {
            let text = log.baseAddress.map { String(cString: $0) } ?? ""
            bpf_object__close(object)
            throw BPFError("load the BPF programs", result: result, verifierLog: text.isEmpty ? nil : text)
        }
        return LoadedObject(taking: object)
    }

    deinit {
        log.deallocate()
        bpf_object__close(object)
    }
}

/// A BPF object in the kernel. Its programs and maps live as long as it does, or something else holds them.
public struct LoadedObject: ~Copyable {
    private let object: OpaquePointer

    fileprivate init(taking object: OpaquePointer) {
        self.object = object
    }

    /// A descriptor of a program, by its function's name.
    public func program(_ name: String) throws(BPFError) -> Descriptor {
        let program = bpf_object__find_program_by_name(object, name)
        return try duplicate(program.map { bpf_program__fd($0) } ?? -ENOENT, "the program \(name)")
    }

    /// A descriptor of a map, by its name.
    public func map(_ name: String) throws(BPFError) -> Descriptor {
        let map = findMap(name, in: object)
        return try duplicate(map.map { bpf_map__fd($0) } ?? -ENOENT, "the map \(name)")
    }

    private func duplicate(_ number: Int32, _ what: String) throws(BPFError) -> Descriptor {
        try check(number, "find \(what) in the BPF object")
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw BPFError("open \(what)", result: -errno) }
        return Descriptor(owning: copy)
    }

    deinit {
        bpf_object__close(object)
    }
}
