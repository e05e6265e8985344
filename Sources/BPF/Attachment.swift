internal import CLibbpf
internal import Glibc

/// Which packets of an interface TC looks at.
public enum TCDirection: Hashable, Sendable {
    /// Those that arrive.
    case ingress
    /// Those that leave.
    case egress

    fileprivate var point: bpf_tc_attach_point { self == .ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS }
}

/// A place in the network stack that runs our programs.
public enum AttachPoint: Hashable, Sendable {
    /// The driver, before there is a socket buffer (native XDP).
    case xdp
    /// TC through a tcx link (Linux 6.6).
    case tcx(TCDirection)

    /// Numbers of `enum bpf_attach_type`; Debian 12's headers end before tcx.
    fileprivate var type: bpf_attach_type {
        switch self {
        case .xdp: BPF_XDP
        case .tcx(.ingress): bpf_attach_type(rawValue: 46)
        case .tcx(.egress): bpf_attach_type(rawValue: 47)
        }
    }
}

extension AttachPoint {
    /// How many programs are attached there to an interface, whoever's. EINVAL: the kernel has no such point.
    public func programCount(interfaceIndex: UInt32) throws(BPFError) -> Int {
        var (flags, count): (UInt32, UInt32) = (0, 0)
        try check(
            bpf_prog_query(Int32(interfaceIndex), type, 0, &flags, nil, &count), "count the programs of an interface")
        return Int(count)
    }
}

/// A system call on sockets that runs our programs, for IPv4 or IPv6 addresses; its name as printed.
public enum SocketHook: String, CaseIterable, Hashable, Sendable {
    /// Who the peer is.
    case getpeername4, getpeername6
    /// Who has sent a datagram.
    case recvmsg4, recvmsg6
    /// Where a connection leads.
    case connect4, connect6
    /// Where a datagram of a socket that is not connected goes.
    case sendmsg4, sendmsg6

    fileprivate var type: bpf_attach_type {
        switch self {
        case .getpeername4: BPF_CGROUP_INET4_GETPEERNAME
        case .getpeername6: BPF_CGROUP_INET6_GETPEERNAME
        case .recvmsg4: BPF_CGROUP_UDP4_RECVMSG
        case .recvmsg6: BPF_CGROUP_UDP6_RECVMSG
        case .connect4: BPF_CGROUP_INET4_CONNECT
        case .connect6: BPF_CGROUP_INET6_CONNECT
        case .sendmsg4: BPF_CGROUP_UDP4_SENDMSG
        case .sendmsg6: BPF_CGROUP_UDP6_SENDMSG
        }
    }
}

/// A BPF link: an attachment that lives as long as a descriptor or a pin of it.
public struct BPFLink: ~Copyable, Sendable {
    /// The link itself.
    public let descriptor: Descriptor

    /// Takes over a link's descriptor.
    public init(_ descriptor: consuming Descriptor) {
        self.descriptor = descriptor
    }

    /// Attaches a program to an interface. EBUSY at XDP: another program is there. EINVAL at tcx: the kernel has none.
    public init(
        program: borrowing Descriptor, interfaceIndex: UInt32, at point: AttachPoint
    ) throws(BPFError) {
        let program = program.number
        let number = withOptions(bpf_link_create_opts.self) { options in
            options.pointee.flags = point == .xdp ? UInt32(1 << 2) : 0  // XDP_FLAGS_DRV_MODE: native or nothing
            return bpf_link_create(program, Int32(interfaceIndex), point.type, options)
        }
        descriptor = Descriptor(owning: try check(number, "attach a program"))
    }

    /// Attaches a program to the sockets of a control group (a directory of the cgroup v2 file system) and those below it,
    /// beside other programs there.
    public init(program: borrowing Descriptor, controlGroup path: String, at hook: SocketHook) throws(BPFError) {
        let attempt = "attach a program to the control group \(path)"
        let group = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard group >= 0 else { throw BPFError(attempt, result: -errno) }
        defer { close(group) }
        descriptor = Descriptor(
            owning: try check(bpf_link_create(program.number, group, hook.type, nil), attempt))
    }

    /// Puts another program in the place of the present one, at once for every packet.
    public func replaceProgram(with program: borrowing Descriptor) throws(BPFError) {
        try check(bpf_link_update(descriptor.number, program.number, nil), "replace an attached program")
    }

    /// The interface, or nil when it has gone.
    public func interfaceIndex() throws(BPFError) -> UInt32? {
        var info = bpf_link_info()
        var size = UInt32(MemoryLayout<bpf_link_info>.size)
        try check(bpf_obj_get_info_by_fd(descriptor.number, &info, &size), "inspect a link")
        // For a tcx link too: its ifindex stands where that of an XDP link does (linux/bpf.h, struct bpf_link_info).
        return info.xdp.ifindex == 0 ? nil : info.xdp.ifindex
    }

    /// Whether the control group that the link is on is still there.
    public func hasControlGroup() throws(BPFError) -> Bool {
        var info = bpf_link_info()
        var size = UInt32(MemoryLayout<bpf_link_info>.size)
        try check(bpf_obj_get_info_by_fd(descriptor.number, &info, &size), "inspect a link")
        return info.cgroup.cgroup_id != 0
    }

    /// The attached program.
    public func program() throws(BPFError) -> Descriptor {
        var info = bpf_link_info()
        var size = UInt32(MemoryLayout<bpf_link_info>.size)
        try check(bpf_obj_get_info_by_fd(descriptor.number, &info, &size), "inspect a link")
        return Descriptor(owning: try check(bpf_prog_get_fd_by_id(info.prog_id), "open an attached program"))
    }

    /// Detaches now, whoever else holds the link.
    public func detach() throws(BPFError) {
        try check(bpf_link_detach(descriptor.number), "detach a program")
    }
}

/// A classifier program of a clsact queueing discipline: TC before tcx. It outlives its loader.
public struct ClsactFilter: Sendable {
    /// The interface.
    public let interfaceIndex: UInt32
    /// The side of the queueing discipline.
    public let direction: TCDirection
    /// Identify our filter among others; first in order.
    private static let handle: UInt32 = 0xfa57
    private static let priority: UInt32 = 1

    /// Names the filter; attaches nothing.
    public init(interfaceIndex: UInt32, direction: TCDirection) {
        self.interfaceIndex = interfaceIndex
        self.direction = direction
    }

    /// Calls `body` with our place, on one or both sides of the queueing discipline.
    private func at(_ points: bpf_tc_attach_point..., body: (UnsafeMutablePointer<bpf_tc_hook>) -> Int32) -> Int32 {
        withOptions(bpf_tc_hook.self) { hook in
            hook.pointee.ifindex = Int32(interfaceIndex)
            hook.pointee.attach_point = bpf_tc_attach_point(rawValue: points.reduce(0) { $0 | $1.rawValue })
            return body(hook)
        }
    }

    /// Calls `body` with our place and the numbers of our filter.
    private func atFilter(
        _ body: (UnsafeMutablePointer<bpf_tc_hook>, UnsafeMutablePointer<bpf_tc_opts>) -> Int32
    ) -> Int32 {
        at(direction.point) { hook in
            withOptions(bpf_tc_opts.self) { options in
                options.pointee.handle = Self.handle
                options.pointee.priority = Self.priority
                return body(hook, options)
            }
        }
    }

    /// Makes the queueing discipline; false when there was one.
    public func createQueueingDiscipline() throws(BPFError) -> Bool {
        let result = at(BPF_TC_INGRESS) { bpf_tc_hook_create($0) }
        if result == -EEXIST { return false }
        try check(result, "add a clsact queueing discipline")
        return true
    }

    /// Removes the queueing discipline with every filter on it.
    public func destroyQueueingDiscipline() throws(BPFError) {
        try checkRemoval(
            at(BPF_TC_INGRESS, BPF_TC_EGRESS) { bpf_tc_hook_destroy($0) }, "remove a clsact queueing discipline")
    }

    /// Attaches the program, in the place of an earlier one of ours.
    public func attach(_ program: borrowing Descriptor) throws(BPFError) {
        let program = program.number
        let result = atFilter { hook, options in
            options.pointee.prog_fd = program
            options.pointee.flags = BPF_TC_F_REPLACE.rawValue
            return bpf_tc_attach(hook, options)
        }
        try check(result, "attach a program to clsact")
    }

    /// Detaches our program; silent when there is none.
    public func detach() throws(BPFError) {
        try checkRemoval(atFilter { bpf_tc_detach($0, $1) }, "detach a program from clsact")
    }

    /// Whether our program is attached.
    public func isAttached() -> Bool {
        atFilter { bpf_tc_query($0, $1) } == 0
    }

    /// What is not there, or on an interface that has gone, is removed already.
    private func checkRemoval(_ result: Int32, _ attempt: String) throws(BPFError) {
        if ![-ENOENT, -EINVAL, -ENODEV].contains(result) { try check(result, attempt) }
    }
}
