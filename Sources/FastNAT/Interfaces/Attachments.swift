internal import BPF
internal import Glibc
internal import Netlink

/// The attachments of this network namespace, as the directory of their pins has them.
///
/// An XDP or tcx link is pinned. A clsact filter lives without us; a directory in place of a pin remembers it, and one in
/// that, called `owned`, that the queueing discipline is ours too.
struct Attachments {
    let directory: String

    init(directory: String) {
        self.directory = directory
    }

    /// What is attached, or was when its interface was still there; an interface's queueing discipline with its owner last.
    func all() -> [Attachment] {
        let attachments = directoryEntries(directory).compactMap(Attachment.init(pinName:))
        return attachments.filter { !owns($0) } + attachments.filter(owns)
    }

    /// The interfaces that are uplinks.
    func uplinks() -> Set<UInt32> { Set(all().filter { $0.role == .uplink }.map(\.interfaceIndex)) }

    private func owns(_ attachment: Attachment) -> Bool { pathExists(path(attachment) + "/owned") }

    private func filter(of attachment: Attachment) -> ClsactFilter {
        ClsactFilter(interfaceIndex: attachment.interfaceIndex, direction: attachment.role.direction)
    }

    /// Whether the interface is still there with our program on it.
    func isAlive(_ attachment: Attachment) -> Bool {
        if attachment.hook == .clsact { return filter(of: attachment).isAttached() }
        guard let link = try? BPFLink(Descriptor(pinnedAt: path(attachment))) else { return false }
        return (try? link.interfaceIndex()) == attachment.interfaceIndex
    }

    private func path(_ attachment: Attachment) -> String { "\(directory)/\(attachment.pinName)" }

    /// Attaches a program at TC, or puts it in the place of the one that is there.
    ///
    /// - Returns: the attachment when it is new.
    func attachTC(
        _ role: InterfaceRole, _ interfaceIndex: UInt32, _ program: borrowing Descriptor, _ kind: TCAttachment
    ) throws -> Attachment? {
        let tcx = Attachment(role: role, interfaceIndex: interfaceIndex, hook: .tcx)
        let clsact = Attachment(role: role, interfaceIndex: interfaceIndex, hook: .clsact)
        for present in [tcx, clsact] where pathExists(path(present)) {
            if try replace(present, with: program) { return nil }
        }
        if kind != .clsact {
            do {
                return try attachLink(tcx, program, .tcx(role.direction))
            } catch let error as BPFError where error.code == EINVAL && kind == .auto {
                // No tcx in this kernel: clsact does.
            }
        }
        return try attachClsact(clsact, program)
    }

    /// Attaches a program at XDP, or puts it in the place of the one that is there.
    ///
    /// - Returns: the attachment when it is new.
    func attachXDP(_ interfaceIndex: UInt32, _ program: borrowing Descriptor) throws -> Attachment? {
        let attachment = Attachment(role: .uplink, interfaceIndex: interfaceIndex, hook: .xdp)
        if pathExists(path(attachment)), try replace(attachment, with: program) { return nil }
        return try attachLink(attachment, program, .xdp)
    }

    private func attachLink(_ attachment: Attachment, _ program: borrowing Descriptor, _ point: AttachPoint) throws
        -> Attachment
    {
        let link = try BPFLink(program: program, interfaceIndex: attachment.interfaceIndex, at: point)
        try link.descriptor.pin(at: path(attachment))
        return attachment
    }

    /// Remembers first: a crash in between is mended by the next load or unload.
    private func attachClsact(_ attachment: Attachment, _ program: borrowing Descriptor) throws -> Attachment {
        let filter = filter(of: attachment)
        try makeDirectory(path(attachment))
        do {
            if try filter.createQueueingDiscipline() { try makeDirectory(path(attachment) + "/owned") }
            try filter.attach(program)
        } catch {
            detach(attachment)
            throw error
        }
        return attachment
    }

    /// false: what was attached has gone with its interface, and its pin is removed.
    private func replace(_ attachment: Attachment, with program: borrowing Descriptor) throws -> Bool {
        if attachment.hook == .clsact {
            try filter(of: attachment).attach(program)
            return true
        }
        let link = try BPFLink(Descriptor(pinnedAt: path(attachment)))
        guard try link.interfaceIndex() != nil else {
            unlink(path(attachment))
            return false
        }
        try link.replaceProgram(with: program)
        return true
    }

    /// Puts a program in the place of the present one of an attachment that is alive; forgets one that is not.
    func refresh(_ attachment: Attachment, with program: borrowing Descriptor) throws {
        if isAlive(attachment) { _ = try replace(attachment, with: program) } else { detach(attachment) }
    }

    /// Detaches, and removes the pin. Nothing that can fail here is worth stopping for: the interface may have gone.
    func detach(_ attachment: Attachment) {
        if attachment.role == .uplink && attachment.hook != .xdp { forgetMode(of: attachment.interfaceIndex) }
        if attachment.hook == .clsact {
            let filter = filter(of: attachment)
            try? filter.detach()
            let owned = path(attachment) + "/owned"
            if owns(attachment) {
                if !hasForeignFilters(on: attachment.interfaceIndex) { try? filter.destroyQueueingDiscipline() }
                rmdir(owned)
            }
            rmdir(path(attachment))
        } else {
            // A pin's link would be freed some time after its removal; detached, it is off at once.
            if let link = try? BPFLink(Descriptor(pinnedAt: path(attachment))) { try? link.detach() }
            unlink(path(attachment))
        }
    }

    /// Remembers which mode an uplink was loaded with, until it is detached.
    func note(_ mode: HookMode, on interfaceIndex: UInt32) throws(FastNATError) {
        forgetMode(of: interfaceIndex)
        if mode != .auto { try makeDirectory(path(mode, interfaceIndex)) }
    }

    /// The mode that an uplink was loaded with.
    func mode(of interfaceIndex: UInt32) -> HookMode {
        HookMode.allCases.first { pathExists(path($0, interfaceIndex)) } ?? .auto
    }

    private func forgetMode(of interfaceIndex: UInt32) {
        for mode in HookMode.allCases { rmdir(path(mode, interfaceIndex)) }
    }

    /// A directory, because a bpf file system has no files to write in.
    private func path(_ mode: HookMode, _ interfaceIndex: UInt32) -> String {
        "\(directory)/\(InterfaceRole.uplink.rawValue)-\(interfaceIndex)-mode-\(mode.rawValue)"
    }

    /// Filters of somebody else would go with the queueing discipline.
    private func hasForeignFilters(on interfaceIndex: UInt32) -> Bool {
        guard var netlink = try? RouteNetlink() else { return true }
        return (try? netlink.hasClsactFilters(interfaceIndex: interfaceIndex)) ?? true
    }
}
