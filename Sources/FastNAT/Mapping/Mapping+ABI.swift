internal import Addresses
internal import CDatapath

extension mapping {
    /// - Parameter client: what a target of the other family sees as the client, where the kernel does not tell the datapath.
    init(_ mapping: PortMapping, id: UInt32, client: IPAddress?) {
        var flags: UInt32 = 0
        if !mapping.allow.isEmpty { flags |= MAPPING_RESTRICTED.rawValue }
        if mapping.target.ports.count == 1 && mapping.listen.ports.count > 1 { flags |= MAPPING_SINGLE_TARGET.rawValue }
        if !mapping.limits.isEmpty { flags |= MAPPING_LIMITED.rawValue }
        self.init(
            target: address(mapping.target.address), port_end: mapping.listen.ports.last.bigEndian,
            target_port: mapping.target.ports.first.bigEndian, id: id, flags: flags, zero: 0,
            client: client.map { address($0) } ?? address(anyOf: mapping.target.address.family))
    }
}

extension mapping_owner {
    init(_ owner: MappingOwner) {
        self.init()
        withUnsafeMutableBytes(of: &text) { $0.copyBytes(from: owner.text.utf8) }
    }
}

extension MappingOwner {
    /// The owner that an entry names.
    init(_ entry: mapping_owner) throws(MappingError) {
        try self.init(withUnsafeBytes(of: entry.text) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }
}

extension PortMapping {
    /// The mapping that an entry stands for.
    init(key: mapping_key, value: mapping, allow: [IPPrefix], limits: FlowLimits) throws(MappingError) {
        let first = UInt16(bigEndian: key.port)
        let ports = try PortRange(first: first, last: UInt16(bigEndian: value.port_end))
        let targetFirst = UInt16(bigEndian: value.target_port)
        let isSingle = value.flags & MAPPING_SINGLE_TARGET.rawValue != 0
        let targetLast = isSingle ? Int(targetFirst) : Int(targetFirst) + ports.count - 1
        guard let transport = TransportProtocol(rawValue: key.protocol), let last = UInt16(exactly: targetLast) else {
            throw .malformed(.mapping, text: "an entry of the datapath", problem: "it is not one that fastnat writes")
        }
        try self.init(
            listen: Listen(address: key.address.value, ports: ports, transport: transport),
            target: Target(address: value.target.value, ports: PortRange(first: targetFirst, last: last)), allow: allow,
            limits: limits)
    }
}

extension range_starts {
    /// Marks or unmarks the first port of a range. false: no range is left.
    mutating func set(_ port: UInt16, _ isStart: Bool) -> Bool {
        let word = Int(port) / 64
        withUnsafeMutableBytes(of: &words) { bytes in
            let words = bytes.assumingMemoryBound(to: UInt64.self)
            let bit = UInt64(1) << (UInt64(port) % 64)
            words[word] = isStart ? words[word] | bit : words[word] & ~bit
            let isEmpty = words[word] == 0
            withUnsafeMutableBytes(of: &summary) { bytes in
                let summary = bytes.assumingMemoryBound(to: UInt64.self)
                let bit = UInt64(1) << (UInt64(word) % 64)
                summary[word / 64] = isEmpty ? summary[word / 64] & ~bit : summary[word / 64] | bit
            }
        }
        return withUnsafeBytes(of: summary) { $0.contains { $0 != 0 } }
    }

    static var empty: range_starts {
        withUnsafeTemporaryAllocation(of: range_starts.self, capacity: 1) { buffer in
            UnsafeMutableRawBufferPointer(buffer).initializeMemory(as: UInt8.self, repeating: 0)
            return buffer[0]
        }
    }
}
