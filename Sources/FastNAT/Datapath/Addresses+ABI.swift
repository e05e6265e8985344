internal import Addresses
internal import CDatapath

// Byte order and padding of addresses, ports and keys: here and in the other +ABI files, and nowhere else.

extension address {
    init(_ value: IPAddress) { self.init(words: value.mapped) }

    /// Any local address of a family, as keys of mappings write it.
    init(anyOf family: IPFamily) {
        self.init(words: (0, 0, family == .ipv4 ? UInt32(0xffff).bigEndian : 0, 0))
    }

    var value: IPAddress { IPAddress(mapped: words) }
}

extension mapping_key {
    init(_ listen: Listen, family: IPFamily) {
        self.init(
            address: listen.address.map { CDatapath.address($0) } ?? CDatapath.address(anyOf: family),
            port: listen.ports.first.bigEndian, protocol: listen.transport.rawValue, zero: 0)
    }
}

extension range_key {
    init(_ key: mapping_key) {
        self.init(address: key.address, protocol: key.protocol, zero: (0, 0, 0))
    }
}

extension source_key {
    init(mapping: UInt32, _ prefix: IPPrefix) {
        self.init(
            prefix_length: 32 + UInt32(prefix.mappedLength), mapping_id: mapping.bigEndian,
            source: CDatapath.address(prefix.address))
    }
}
