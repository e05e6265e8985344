internal import CLibbpf
internal import Glibc

/// What an update does about an entry that is, or is not, there.
public enum UpdateRule: UInt64, Sendable {
    /// Create or replace (`BPF_ANY`).
    case any = 0
    /// Fail with EEXIST when it is there (`BPF_NOEXIST`).
    case create = 1
    /// Fail with ENOENT when it is not (`BPF_EXIST`).
    case replace = 2
}

/// A BPF map whose keys and values are plain memory.
public struct Map<Key: BitwiseCopyable, Value: BitwiseCopyable>: ~Copyable {
    /// The map itself.
    public let descriptor: Descriptor
    /// For error messages.
    public let name: String
    /// How many entries fit.
    public let capacity: UInt32

    /// Checks that keys and values have the sizes of their Swift types.
    public init(_ descriptor: consuming Descriptor, name: String) throws(BPFError) {
        let info = try MapInformation(of: descriptor, name: name)
        guard info.keySize == MemoryLayout<Key>.size, info.valueSize == MemoryLayout<Value>.size else {
            throw BPFError("use the map \(name), whose layout is of another version of fastnat", result: -EPROTO)
        }
        self.descriptor = descriptor
        self.name = name
        self.capacity = info.capacity
    }

    /// The value of a key, or nil.
    public func value(_ key: Key) throws(BPFError) -> Value? {
        try withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { buffer throws(BPFError) -> Value? in
            var key = key
            let result = bpf_map_lookup_elem(descriptor.number, &key, buffer.baseAddress)
            if result == -ENOENT { return nil }
            try check(result, "look up an entry of the map \(name)")
            return buffer[0]
        }
    }

    /// Sets the value of a key.
    public func set(_ key: Key, _ value: Value, _ rule: UpdateRule = .any) throws(BPFError) {
        var key = key
        var value = value
        try check(
            bpf_map_update_elem(descriptor.number, &key, &value, rule.rawValue), "write an entry of the map \(name)")
    }

    /// Removes a key; false when it was not there.
    @discardableResult
    public func remove(_ key: Key) throws(BPFError) -> Bool {
        var key = key
        let result = bpf_map_delete_elem(descriptor.number, &key)
        if result == -ENOENT { return false }
        try check(result, "remove an entry of the map \(name)")
        return true
    }

    /// All keys. Entries that come and go meanwhile may be missed, others never.
    public func keys() throws(BPFError) -> [Key] {
        var keys: [Key] = []
        try withUnsafeTemporaryAllocation(of: Key.self, capacity: 1) { next throws(BPFError) in
            var result = bpf_map_get_next_key(descriptor.number, nil, next.baseAddress)
            while result == 0 {
                var key = next[0]
                keys.append(key)
                result = bpf_map_get_next_key(descriptor.number, &key, next.baseAddress)
            }
            guard result == -ENOENT else { throw BPFError("list the map \(name)", result: result) }
        }
        return keys
    }

    /// All entries, in batches of one system call each. For hash maps.
    public func entries() throws(BPFError) -> [(key: Key, value: Value)] {
        let batch = 4096
        let keys = UnsafeMutablePointer<Key>.allocate(capacity: batch)
        let values = UnsafeMutablePointer<Value>.allocate(capacity: batch)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        var entries: [(key: Key, value: Value)] = []
        var position: UInt64 = 0  // opaque to us; a hash map wants 4 bytes
        var isFirst = true
        while true {
            var count = UInt32(batch)
            var next: UInt64 = 0
            var result: Int32 = 0
            result = withUnsafeMutablePointer(to: &position) { from in
                bpf_map_lookup_batch(descriptor.number, isFirst ? nil : from, &next, keys, values, &count, nil)
            }
            guard result == 0 || result == -ENOENT else { throw BPFError("list the map \(name)", result: result) }
            for index in 0..<Int(count) { entries.append((keys[index], values[index])) }
            if result == -ENOENT { return entries }
            position = next
            isFirst = false
        }
    }
}

/// A map with one value for each CPU and key.
public struct PerCPUMap<Value: BitwiseCopyable>: ~Copyable {
    /// The map itself.
    public let descriptor: Descriptor
    let name: String
    /// CPUs that can ever be there: the kernel keeps a value for each.
    let processors: Int

    /// Checks that values have the size of their Swift type. Keys are indices of an array.
    public init(_ descriptor: consuming Descriptor, name: String) throws(BPFError) {
        let info = try MapInformation(of: descriptor, name: name)
        guard info.keySize == 4, info.valueSize == MemoryLayout<Value>.size, info.valueSize % 8 == 0 else {
            throw BPFError("use the map \(name), whose layout is of another version of fastnat", result: -EPROTO)
        }
        let processors = try check(libbpf_num_possible_cpus(), "count the CPUs")
        self.descriptor = descriptor
        self.name = name
        self.processors = Int(processors)
    }

    /// The values of all CPUs.
    public func values(_ index: UInt32) throws(BPFError) -> [Value] {
        let values = UnsafeMutablePointer<Value>.allocate(capacity: processors)
        defer { values.deallocate() }
        var key = index
        try check(bpf_map_lookup_elem(descriptor.number, &key, values), "look up an entry of the map \(name)")
        return (0..<processors).map { values[$0] }
    }

    /// Sets the value of every CPU.
    public func setAll(_ index: UInt32, _ value: Value) throws(BPFError) {
        var key = index
        var values = [Value](repeating: value, count: processors)
        try check(bpf_map_update_elem(descriptor.number, &key, &values, 0), "write an entry of the map \(name)")
    }
}

/// Elements that stand in a row in the memory of a map that was made with `BPF_F_MMAPABLE`.
private struct MappedMemory<Element: BitwiseCopyable>: ~Copyable {
    private let memory: UnsafeMutableRawPointer
    private let length: Int
    let count: Int

    init(_ descriptor: borrowing Descriptor, name: String, count: Int, protection: Int32) throws(BPFError) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let length = (count * MemoryLayout<Element>.stride + page - 1) / page * page
        guard
            let memory = mmap(nil, length, protection, MAP_SHARED, descriptor.number, 0),
            memory != MAP_FAILED
        else { throw BPFError("map the memory of the map \(name)", result: -errno) }
        self.memory = memory
        self.length = length
        self.count = count
    }

    subscript(index: Int) -> Element {
        get {
            precondition(index >= 0 && index < count)
            return memory.load(fromByteOffset: index * MemoryLayout<Element>.stride, as: Element.self)
        }
        nonmutating set {
            precondition(index >= 0 && index < count)
            memory.storeBytes(of: newValue, toByteOffset: index * MemoryLayout<Element>.stride, as: Element.self)
        }
    }

    deinit {
        munmap(memory, length)
    }
}

/// The elements of an array map, mapped read-only: they change while they are read.
public struct MappedArray<Element: BitwiseCopyable>: ~Copyable, @unchecked Sendable {
    private let memory: MappedMemory<Element>

    /// Maps the memory of an array map that was made with `BPF_F_MMAPABLE`.
    public init(_ map: borrowing Map<UInt32, Element>) throws(BPFError) {
        memory = try MappedMemory(map.descriptor, name: map.name, count: Int(map.capacity), protection: PROT_READ)
    }

    /// How many elements there are.
    public var count: Int { memory.count }

    /// A copy of one element, as it is now.
    public subscript(index: Int) -> Element { memory[index] }
}

/// The global variables of a BPF object's programs, as one array of elements that stand there in a row, mapped.
public struct MappedVariables<Element: BitwiseCopyable>: ~Copyable, @unchecked Sendable {
    private let memory: MappedMemory<Element>

    /// Maps the map of that name (`variablesMap`), which holds `count` of them and nothing else.
    public init(_ descriptor: borrowing Descriptor, count: Int) throws(BPFError) {
        let info = try MapInformation(of: descriptor, name: variablesMap)
        guard info.capacity == 1, info.valueSize == count * MemoryLayout<Element>.stride else {
            throw BPFError(
                "use the map \(variablesMap), whose layout is of another version of fastnat", result: -EPROTO)
        }
        memory = try MappedMemory(descriptor, name: variablesMap, count: count, protection: PROT_READ | PROT_WRITE)
    }

    /// A copy of one element, as it is now; or writes one, not all at once.
    public subscript(index: Int) -> Element {
        get { memory[index] }
        nonmutating set { memory[index] = newValue }
    }
}

/// What the kernel says of a map.
struct MapInformation {
    let keySize: Int
    let valueSize: Int
    let capacity: UInt32

    init(of descriptor: borrowing Descriptor, name: String) throws(BPFError) {
        var info = bpf_map_info()
        var size = UInt32(MemoryLayout<bpf_map_info>.size)
        try check(bpf_obj_get_info_by_fd(descriptor.number, &info, &size), "inspect the map \(name)")
        keySize = Int(info.key_size)
        valueSize = Int(info.value_size)
        capacity = info.max_entries
    }
}
