internal import CLibbpf

/// What the running kernel says of its own types and functions (BTF).
public struct KernelTypes: ~Copyable {
    /// The file in which it does.
    public static let path = "/sys/kernel/btf/vmlinux"

    private let types: OpaquePointer

    /// nil: the kernel does not describe them (CONFIG_DEBUG_INFO_BTF).
    public init?() {
        guard let types = btf__load_vmlinux_btf() else { return nil }
        self.types = types
    }

    deinit { btf__free(types) }

    /// The number by which programs call a function of the kernel; nil: it has none of this name.
    public func function(_ name: String) -> Int32? {
        let number = btf__find_by_name_kind(types, name, btf_kind_function)
        return number > 0 ? number : nil
    }

    /// Where a bit field begins, in bits from the structure's beginning, as the kernel's compiler counts them; nil: there is no
    /// such bit field.
    public func bitField(_ name: String, of structure: String) -> UInt32? {
        let number = btf__find_by_name_kind(types, structure, btf_kind_structure)
        return number > 0 ? bitField(name, in: UInt32(number)) : nil
    }

    /// Members of unnamed structures and unions are members of what these are in.
    private func bitField(_ name: String, in composite: UInt32) -> UInt32? {
        guard let type = btf__type_by_id(types, composite), btf_is_composite(type), let members = btf_members(type)
        else { return nil }
        for index in 0..<UInt32(btf_vlen(type)) {
            let member = members[Int(index)]
            let offset = btf_member_bit_offset(type, index)
            if member.name_off == 0 {
                if let inner = bitField(name, in: member.type) { return offset + inner }
            } else if btf_member_bitfield_size(type, index) > 0,
                btf__name_by_offset(types, member.name_off).map({ String(cString: $0) }) == name
            {
                return offset
            }
        }
        return nil
    }
}
