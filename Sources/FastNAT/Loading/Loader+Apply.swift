internal import BPF
internal import CDatapath

// Bringing about a whole state.
extension Loader {
    /// What `apply` would do: nothing when everything is as desired. Throws what it would refuse.
    public static func differences(to desired: DesiredState) throws(FastNATError) -> [StateChange] {
        try Requirements.check()
        return try translating {
            let interfaces = try AttachmentPlan(desired.request)
            let state = try StateDirectory()
            guard state.isLoaded else { return try StatePlan(desired, interfaces, from: nil).changes }
            let loaded = try LoadedDatapath(for: .read)
            let present = try StatePlan.Present(loaded.datapath.maps, Attachments(directory: state.links))
            return try StatePlan(desired, interfaces, from: present).changes
        }
    }

    /// Brings a state about: all of it, or nothing is changed. Flows go on.
    ///
    /// A packet meets, at every moment and on every uplink, what was or what will be: uplinks that go are detached first, those
    /// that come are attached last, and in between mappings change as `Datapath.replaceMappings` says. Masquerades change before
    /// all that, while the uplinks that they leave are still there, or after it when they need one that comes.
    ///
    /// - Returns: what did not stop it: why targets of mappings that were there before cannot be reached now.
    public static func apply(_ desired: DesiredState) throws(FastNATError) -> [FastNATError] {
        try Requirements.check()
        return try translating {
            let interfaces = try AttachmentPlan(desired.request)
            let state = try StateDirectory()
            if !state.isLoaded { _ = try StatePlan(desired, interfaces, from: nil) }
            let everything = try state.prepare()
            let here = try state.lockPrepared()
            state.removeAbandoned(Loader.isAbandoned)
            let problems =
                try state.isLoaded
                ? applyToLoaded(desired, interfaces, state, here) : applyFresh(desired, interfaces, state, here)
            _ = consume everything
            return problems
        }
    }

    private static func applyFresh(
        _ desired: DesiredState, _ interfaces: AttachmentPlan, _ state: consuming StateDirectory, _ here: consuming Lock
    ) throws -> [FastNATError] {
        do {
            let plan = try StatePlan(desired, interfaces, from: nil)
            let object = try loadFresh(desired.request, state)
            try startSweep(object)
            try pinPrograms(of: object, in: state.programs)
            let loaded = LoadedDatapath(try Datapath.pinned(in: state), try StateDirectory(), here)
            return try loaded.carryOut(plan, object) + attachHost(state)
        } catch {
            removeAll(state)
            throw error
        }
    }

    private static func applyToLoaded(
        _ desired: DesiredState, _ interfaces: AttachmentPlan, _ state: consuming StateDirectory, _ here: consuming Lock
    ) throws -> [FastNATError] {
        let datapath = try Datapath.pinned(in: state)
        let present = try StatePlan.Present(datapath.maps, Attachments(directory: state.links))
        let plan = try StatePlan(desired, interfaces, from: present)
        let changesInterfaces = plan.attaches || !plan.leaving.isEmpty
        let loaded = LoadedDatapath(datapath, try StateDirectory(), here)
        guard changesInterfaces else {
            try loaded.carryOut(plan)
            return []
        }
        // Programs are verified before anything changes. The timeouts follow below.
        var request = desired.request
        request.timeouts = TimeoutChanges()
        let object = try reload(request, state)
        try startSweep(object)
        try pinPrograms(of: object, in: state.programs)
        return try loaded.carryOut(plan, object) + attachHost(state)
    }

    /// Lets the host itself reach its published ports. Returns why it cannot.
    private static func attachHost(_ state: borrowing StateDirectory) -> [FastNATError] {
        guard case .off(let reason) = HostPrograms(in: state).attach() else { return [] }
        return [.noHostAccess(reason)]
    }
}

extension LoadedDatapath {
    /// Carries out a plan that attaches to nothing.
    func carryOut(_ plan: StatePlan) throws {
        try changeMasquerades(plan) {
            try changeTimeouts(plan.timeouts) {
                try changeMappings(plan) {}
            }
        }
    }

    /// Carries out a plan with the programs that it attaches. What fails takes back what came before it.
    ///
    /// - Returns: why targets cannot be reached.
    func carryOut(_ plan: StatePlan, _ object: borrowing LoadedObject) throws -> [FastNATError] {
        var problems: [FastNATError] = []
        if plan.masquerades?.needsNewUplink == true {
            problems = try changeInterfaces(plan, object) { try changeMasquerades(plan) {} }
        } else {
            try changeMasquerades(plan) { problems = try changeInterfaces(plan, object) {} }
        }
        return problems
    }

    private func changeInterfaces(
        _ plan: StatePlan, _ object: borrowing LoadedObject, _ rest: () throws -> Void
    ) throws -> [FastNATError] {
        let attachments = attachments
        let modes = Dictionary(plan.leaving.map { ($0.interfaceIndex, attachments.mode(of: $0.interfaceIndex)) }) { $1 }
        var problems: [FastNATError] = []
        for attachment in plan.leaving { attachments.detach(attachment) }
        do {
            try changeTimeouts(plan.timeouts) {
                try changeMappings(plan) { problems = try Loader.attach(plan.interfaces, object, attachments, rest) }
            }
            return problems
        } catch {
            for attachment in plan.leaving { try? Loader.attachAgain(attachment, object, attachments) }
            for (index, mode) in modes { try? attachments.note(mode, on: index) }
            throw error
        }
    }

    private func changeTimeouts(_ timeouts: Timeouts?, _ rest: () throws -> Void) throws {
        guard let timeouts else { return try rest() }
        let old = try datapath.maps.currentTimeouts()
        try datapath.maps.setTimeouts(timeouts)
        do {
            try rest()
        } catch {
            try? datapath.maps.setTimeouts(old)
            throw error
        }
    }

    private func changeMasquerades(_ plan: StatePlan, _ rest: () throws -> Void) throws {
        guard let masquerades = plan.masquerades else { return try rest() }
        try carryOut(masquerades.change, masquerades.outputs, rest)
    }

    private func changeMappings(_ plan: StatePlan, _ rest: () throws -> Void) throws {
        guard let change = plan.mappings else { return try rest() }
        try connecting(plan.outputs) { try datapath.carryOut(change, .drain, rest) }
    }
}

extension DatapathMaps {
    fileprivate func currentTimeouts() throws -> Timeouts { Timeouts(try currentSettings().timeouts) }

    fileprivate func setTimeouts(_ timeouts: Timeouts) throws {
        var settings = try currentSettings()
        settings.timeouts = timeouts.abi
        try self.settings.set(0, settings)
    }
}
