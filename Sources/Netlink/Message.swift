internal import Addresses
internal import CMnl

/// A request under construction in a socket's buffer. Attributes that do not fit are left out: ours are short.
struct Request {
    let message: UnsafeMutablePointer<nlmsghdr>
    let capacity: Int

    func put(_ attribute: some BinaryInteger, _ value: UInt32) {
        _ = mnl_attr_put_u32_check(message, capacity, UInt16(truncatingIfNeeded: attribute), value)
    }

    func put(_ attribute: some BinaryInteger, _ value: String) {
        _ = mnl_attr_put_strz_check(message, capacity, UInt16(truncatingIfNeeded: attribute), value)
    }

    func put(_ attribute: some BinaryInteger, _ address: IPAddress) {
        let bytes = address.bytes
        _ = mnl_attr_put_check(message, capacity, UInt16(truncatingIfNeeded: attribute), bytes.count, bytes)
    }
}

/// A message of the kernel; valid until the socket receives the next.
struct Message {
    let header: UnsafePointer<nlmsghdr>

    /// The structure at the beginning of the payload, or nil when the message is too short for it.
    func payload<Payload: BitwiseCopyable>(as type: Payload.Type) -> Payload? {
        guard
            mnl_nlmsg_get_payload_len(header) >= MemoryLayout<Payload>.size,
            let start = mnl_nlmsg_get_payload(header)
        else { return nil }
        return start.loadUnaligned(as: type)
    }

    /// The attributes after a structure of type `Payload`, up to the number `highest`.
    func attributes<Payload>(after type: Payload.Type, upTo highest: some BinaryInteger) -> Attributes {
        var attributes = Attributes(upTo: highest)
        _ = withUnsafeMutablePointer(to: &attributes) {
            mnl_attr_parse(header, UInt32(MemoryLayout<Payload>.stride), collect, $0)
        }
        return attributes
    }
}

/// The attributes of one message or of a nested attribute; valid as long as the message.
struct Attributes {
    private var found: [UnsafePointer<nlattr>?]

    fileprivate init(upTo highest: some BinaryInteger) {
        found = Array(repeating: nil, count: Int(highest) + 1)
    }

    fileprivate mutating func insert(_ attribute: UnsafePointer<nlattr>) {
        let type = Int(mnl_attr_get_type(attribute))
        if found.indices.contains(type) { found[type] = attribute }
    }

    /// The attribute `type`, when the message has it and it is long enough for `content`.
    private func attribute(
        _ type: some BinaryInteger, _ content: mnl_attr_data_type = MNL_TYPE_UNSPEC
    ) -> UnsafePointer<nlattr>? {
        guard
            found.indices.contains(Int(type)), let attribute = found[Int(type)],
            mnl_attr_validate(attribute, content) == 0
        else { return nil }
        return attribute
    }

    func uint8(_ type: some BinaryInteger) -> UInt8? { attribute(type, MNL_TYPE_U8).map(mnl_attr_get_u8) }
    func uint16(_ type: some BinaryInteger) -> UInt16? { attribute(type, MNL_TYPE_U16).map(mnl_attr_get_u16) }
    func uint32(_ type: some BinaryInteger) -> UInt32? { attribute(type, MNL_TYPE_U32).map(mnl_attr_get_u32) }
    func uint64(_ type: some BinaryInteger) -> UInt64? { attribute(type, MNL_TYPE_U64).map(mnl_attr_get_u64) }

    func string(_ type: some BinaryInteger) -> String? {
        guard let text = attribute(type, MNL_TYPE_NUL_STRING).flatMap({ mnl_attr_get_str($0) }) else { return nil }
        return String(cString: text)
    }

    func bytes(_ type: some BinaryInteger) -> [UInt8]? {
        guard let attribute = attribute(type), let start = mnl_attr_get_payload(attribute) else { return nil }
        return Array(UnsafeRawBufferPointer(start: start, count: Int(mnl_attr_get_payload_len(attribute))))
    }

    func address(_ type: some BinaryInteger) -> IPAddress? { bytes(type).flatMap { IPAddress(bytes: $0) } }

    func contains(_ type: some BinaryInteger) -> Bool { attribute(type) != nil }

    /// The attributes in the attribute `type`; none when the message lacks it.
    func nested(_ type: some BinaryInteger, upTo highest: some BinaryInteger) -> Attributes {
        var attributes = Attributes(upTo: highest)
        if let attribute = attribute(type, MNL_TYPE_NESTED) {
            _ = withUnsafeMutablePointer(to: &attributes) { mnl_attr_parse_nested(attribute, collect, $0) }
        }
        return attributes
    }
}

/// libmnl's callback for each attribute: `context` is the `Attributes` to put it in.
private func collect(_ attribute: UnsafePointer<nlattr>?, _ context: UnsafeMutableRawPointer?) -> Int32 {
    guard let attribute, let context else { return MNL_CB_ERROR }
    context.assumingMemoryBound(to: Attributes.self).pointee.insert(attribute)
    return MNL_CB_OK
}
