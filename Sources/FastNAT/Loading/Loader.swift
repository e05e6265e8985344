internal import Addresses
internal import BPF
internal import CDatapath
internal import Glibc
internal import Netlink

/// Loads the datapath into the kernel, attaches it, and takes it away again.
public enum Loader {
    /// Loads, or brings what is loaded up to date: flows and mappings stay, and programs change at once for every packet.
    ///
    /// When it fails, what was there before is there still, and nothing else is.
    ///
    /// - Parameter onlyIfMissing: do nothing when fastnat is loaded and attached to these uplinks; whether it is, is asked when
    ///   nobody else can load any more. A flow table that is there keeps its size.
    /// - Returns: what did not stop it: why targets of mappings cannot be reached now, or published ports
    ///   not from this host.
    public static func load(_ request: LoadRequest, onlyIfMissing: Bool = false) throws(FastNATError) -> [FastNATError]
    {
        try Requirements.check()
        return try translating {
            let plan = try AttachmentPlan(request)
            let state = try StateDirectory()
            let everything = try state.prepare()
            let here = try state.lockPrepared()
            state.removeAbandoned(Loader.isAbandoned)
            let wasLoaded = state.isLoaded
            var request = request
            if onlyIfMissing, wasLoaded {
                if Attachments(directory: state.links).carry(plan) { return [] }
                request.maximumFlows = nil
            }
            var problems: [FastNATError] = []
            do {
                let object = try wasLoaded ? reload(request, state) : loadFresh(request, state)
                try startSweep(object)
                try pinPrograms(of: object, in: state.programs)
                problems = try attach(plan, object, Attachments(directory: state.links))
            } catch {
                if !wasLoaded { removeAll(state) }
                throw error
            }
            if case .off(let reason) = HostPrograms(in: state).attach() { problems.append(.noHostAccess(reason)) }
            _ = consume here
            _ = consume everything
            return problems
        }
    }

    /// New maps, pinned. What an interrupted load has left is not used.
    static func loadFresh(_ request: LoadRequest, _ state: borrowing StateDirectory) throws -> LoadedObject {
        removeTree(state.maps)
        removeTree(state.programs)
        try makeDirectory(state.maps)
        try makeDirectory(state.programs)
        let size = try FlowTableSize(flows: request.maximumFlows ?? Int(DEFAULT_MAX_FLOWS.rawValue))
        let seed = UInt64.random(in: 1...UInt64.max)
        let object = try DatapathImage.loadFresh(size, seed: seed)
        let settings = try Map<UInt32, settings>(object.map("settings"), name: "settings")
        try settings.set(0, CDatapath.settings(size, seed: seed, try request.timeouts.applied(to: Timeouts())))
        try noteNamespace(Map(object.map("xdp_outputs"), name: "xdp_outputs"))
        for name in DatapathMaps.names { try object.map(name).pin(at: "\(state.maps)/\(name)") }
        try state.markLoaded()
        return object
    }

    /// This binary's programs on the maps that are there.
    static func reload(_ request: LoadRequest, _ state: borrowing StateDirectory) throws -> LoadedObject {
        let directory = state.maps
        let open = { (name: String) throws(BPFError) in try Descriptor(pinnedAt: "\(directory)/\(name)") }
        let maps = try DatapathMaps.pinned(in: directory)
        var settings = try maps.currentSettings()
        if let limit = request.maximumFlows, limit != Int(settings.max_flows) {
            throw FastNATError.flowLimitFixed(present: Int(settings.max_flows), wanted: limit)
        }
        settings.timeouts = try request.timeouts.applied(to: Timeouts(settings.timeouts)).abi
        try maps.settings.set(0, settings)
        try noteNamespace(maps.xdpOutputs)
        return try DatapathImage.load(on: maps, open)
    }

    static func startSweep(_ object: borrowing LoadedObject) throws {
        let program = try object.program(DatapathProgram.armSweep.rawValue)
        let result = try program.testRun([UInt8](repeating: 0, count: 64))
        guard result.action == 0 else { throw BPFError("start the timer that ends idle flows", result: -EINVAL) }
    }

    static func pinPrograms(of object: borrowing LoadedObject, in directory: String) throws {
        for program in [DatapathProgram.container, .port, .host, .flush] {
            let path = "\(directory)/\(program.rawValue)"
            unlink(path)
            try object.program(program.rawValue).pin(at: path)
        }
    }

    /// Attaches to the interfaces of the plan, gives the new programs to those that are attached already, and attaches to the
    /// interfaces that lead to targets and masqueraded networks now. Returns why some cannot be reached.
    ///
    /// - Parameter rest: what is done when all of it is attached; when that fails, what was not attached before is detached.
    static func attach(
        _ plan: AttachmentPlan, _ object: borrowing LoadedObject, _ attachments: Attachments,
        _ rest: () throws -> Void = {}
    ) throws -> [FastNATError] {
        let maps = try DatapathMaps { name throws(BPFError) in try object.map(name) }
        let targets = try maps.targets()
        let networks: [IPPrefix]
        let container = try object.program(DatapathProgram.container.rawValue)
        let port = try object.program(DatapathProgram.port.rawValue)
        var new: [Attachment] = []
        do {
            for interface in plan.interfaces {
                let program = try object.program(interface.role.program.rawValue)
                let index = interface.link.index
                if let made = try attachments.attachTC(interface.role, index, program, plan.attachment) {
                    new.append(made)
                }
                if let made = try attachXDP(interface, object, attachments) { new.append(made) }
                if interface.role == .uplink { try attachments.note(interface.asked, on: index) }
            }
            for attachment in attachments.all() where !new.contains(attachment) {
                let program = attachment.hook == .xdp ? DatapathProgram.xdp : attachment.role.program
                try attachments.refresh(attachment, with: try object.program(program.rawValue))
            }
            maps.noteOutputs(attachments)
            try rest()
            networks = try maps.masqueradeEntries().map(\.network)
        } catch {
            for attachment in new { attachments.detach(attachment) }
            throw error
        }
        return maps.connect(targets, container, port, attachments)
            + maps.connect(networks, except: attachments.uplinks(), container, port, attachments)
    }

    private static func attachXDP(
        _ interface: AttachmentPlan.Interface, _ object: borrowing LoadedObject, _ attachments: Attachments
    ) throws -> Attachment? {
        let index = interface.link.index
        guard interface.mode.usesXDP else {
            attachments.detach(Attachment(role: .uplink, interfaceIndex: index, hook: .xdp))
            return nil
        }
        do {
            return try attachments.attachXDP(index, try object.program(DatapathProgram.xdp.rawValue))
        } catch let error as BPFError where error.code == EBUSY {
            throw FastNATError.unusableInterface(
                interface.link.name, problem: "another XDP program is attached to it; detach that, or use --mode tc")
        } catch let error as BPFError where error.code == EOPNOTSUPP {
            throw FastNATError.unusableInterface(interface.link.name, problem: "it has no native XDP; use --mode tc")
        }
    }

    /// Attaches to an uplink that was left a moment ago.
    static func attachAgain(
        _ attachment: Attachment, _ object: borrowing LoadedObject, _ attachments: Attachments
    ) throws {
        let index = attachment.interfaceIndex
        if attachment.hook == .xdp {
            _ = try attachments.attachXDP(index, try object.program(DatapathProgram.xdp.rawValue))
        } else {
            let kind: TCAttachment = attachment.hook == .clsact ? .clsact : .tcx
            let program = try object.program(attachment.role.program.rawValue)
            _ = try attachments.attachTC(attachment.role, index, program, kind)
        }
    }

    /// Takes everything away: programs, links, filters, maps, pins, and with the last one the file system.
    public static func unload() throws(FastNATError) {
        try Requirements.check()
        let state = try StateDirectory()
        guard let everything = try state.lockAll(), state.exists else { throw .notLoaded }
        let here = try state.lockPrepared()
        removeAll(state)
        _ = consume here
        _ = consume everything
    }

    /// Detaches from one uplink; everything else stays.
    public static func unload(uplink name: String) throws(FastNATError) {
        try Requirements.check()
        try translating {
            let state = try StateDirectory()
            let lock = try state.lock(.exclusive)
            var interfaces = try Interfaces()
            let link = try interfaces.named(name)
            let attachments = Attachments(directory: state.links)
            let ours = attachments.all().filter { $0.role != .container && $0.interfaceIndex == link.index }
            guard ours.contains(where: { $0.role == .uplink }) else {
                throw FastNATError.unusableInterface(
                    name, problem: "it is no uplink of fastnat; fastnat status lists them")
            }
            try refuseMasqueraded(link, state)
            for attachment in ours { attachments.detach(attachment) }
            _ = consume lock
        }
    }

    /// Containers' packets would go on leaving with this host's address, and what answers them would no longer come back.
    static func refuseMasqueraded(_ uplink: Link, _ state: borrowing StateDirectory) throws {
        let maps = try DatapathMaps.pinned(in: state.maps)
        try refuseMasqueraded(uplink, by: try maps.masqueradeEntries())
    }

    static func refuseMasqueraded(_ uplink: Link, by masquerades: [DatapathMaps.MasqueradeEntry]) throws {
        guard let entry = masquerades.first(where: { $0.value.uplink == uplink.index }) else { return }
        throw FastNATError.unusableInterface(
            uplink.name,
            problem: "\(entry.network) is masqueraded on it; fastnat masquerade rm \(entry.network) first")
    }

    static func removeAll(_ state: borrowing StateDirectory) {
        HostPrograms(in: state).detach()
        let attachments = Attachments(directory: state.links)
        for attachment in attachments.all() { attachments.detach(attachment) }
        state.remove()
    }

    /// The loopback, which every network namespace has, with this index, from its first moment to its last.
    private static let loopback: UInt32 = 1

    /// Enters the loopback among the devices that XDP may redirect to. No route leads a forwarded packet there; but the kernel
    /// removes the entry with the device, so that whoever opens the map can tell whether the namespace still exists.
    private static func noteNamespace(_ outputs: borrowing Map<UInt32, UInt32>) throws(BPFError) {
        try outputs.set(loopback, loopback)
    }

    /// Whether a network namespace has gone, or its load was interrupted. Its other interfaces may have gone without it.
    static func isAbandoned(_ pins: String) -> Bool {
        guard pathExists(pins + "/links") else { return true }
        do throws(BPFError) {
            let outputs = try Map<UInt32, UInt32>(Descriptor(pinnedAt: pins + "/maps/xdp_outputs"), name: "xdp_outputs")
            return try outputs.value(loopback) == nil
        } catch {
            return error.code == ENOENT
        }
    }
}

extension settings {
    init(_ size: FlowTableSize, seed: UInt64, _ timeouts: Timeouts) {
        self.init(
            timeouts: timeouts.abi, max_flows: size.flows, max_half_open: size.halfOpen, has_addressed_mappings: 0,
            has_ranges: 0, has_masquerades: 0, abi_version: ABI_VERSION.rawValue, mappings_version: 0,
            has_endpoints: 0, first_free_id: 0, hash_seed: seed)
    }
}
