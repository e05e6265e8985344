internal import Addresses
internal import FastNAT

/// ADD and CHECK: what a container's attachment is to have, brought about or looked for.
struct AttachmentRequest {
    private let owner: MappingOwner
    private let result: AttachmentResult
    private let addresses: [AttachmentResult.Address]
    private let mappings: [PortMapping]
    private let options: PluginOptions
    private let note: (String) -> Void

    /// Reads the request, and refuses what is wrong with it before anything changes.
    init(_ attachment: NetworkAttachment, _ configuration: NetworkConfiguration, _ note: @escaping (String) -> Void)
        throws(CNIError)
    {
        owner = try MappingOwner(attachment, in: configuration.network)
        result = try configuration.previousResult()
        addresses = try result.addresses(on: attachment.interface)
        options = try configuration.options()
        mappings = try Publication(configuration.ports(), of: addresses.map(\.address), options).mappings
        self.note = note
    }

    /// Whether there is nothing to do for fastnat.
    private var isEmpty: Bool { mappings.isEmpty && options.masquerade == nil }

    /// Publishes the ports, and masquerades. When that fails, nothing of it stays but a datapath that was loaded for it.
    ///
    /// - Returns: the result of the plugins before.
    func add() throws(CNIError) -> JSONValue {
        if !isEmpty {
            let rules = try masqueradeRules()
            try translating { () throws(FastNATError) in
                try withDatapath { loaded throws(FastNATError) in
                    try loaded.replaceMappings(of: owner, with: mappings, force: options.force)
                    do throws(FastNATError) {
                        try masquerade(rules, loaded)
                    } catch {
                        _ = try? loaded.datapath.removeMappings(of: owner, ending: .cut)
                        throw error
                    }
                }
            }
        }
        return result.value
    }

    /// Throws unless everything that `add` brings about is there.
    func check() throws(CNIError) {
        if isEmpty { return }
        let present: [PortMapping]
        let uplinks: [String]
        do throws(FastNATError) {
            let loaded = try LoadedDatapath(for: .read)
            present = try loaded.datapath.mappings().filter { $0.owner == owner }.map(\.mapping)
            uplinks = try loaded.uplinks()
            try loaded.requireConnection(to: addresses.map(\.address))
        } catch {
            throw CNIError(error)
        }
        let (missing, extra) = (Set(mappings).subtracting(present), Set(present).subtracting(mappings))
        guard missing.isEmpty, extra.isEmpty else {
            let details = (missing.map { "- \($0)" } + extra.map { "+ \($0)" }).sorted().joined(separator: "\n")
            throw CNIError(.changed, "the mappings of \(owner) are not those of its ADD", details: details)
        }
        guard !uplinks.isEmpty else {
            throw CNIError(
                .limitedConnectivity, "fastnat is attached to no uplink: fastnat load --iface UPLINK does it")
        }
    }

    // MARK: - The datapath

    /// Runs `body` on the datapath, which is loaded if it is not. Another ADD may load it at the same time, and somebody
    /// unload it in between.
    private func withDatapath(_ body: (borrowing LoadedDatapath) throws(FastNATError) -> Void) throws(FastNATError) {
        for _ in 0..<3 {
            if try runIfLoaded(body) { return }
            let uplinks = try options.uplinks.isEmpty ? Loader.defaultUplinks() : options.uplinks
            let request = options.loadRequest(uplinks: uplinks)
            for problem in try Loader.load(request, onlyIfMissing: true) { note("loaded, but \(problem)") }
        }
        throw .notLoaded
    }

    private func runIfLoaded(_ body: (borrowing LoadedDatapath) throws(FastNATError) -> Void) throws(FastNATError)
        -> Bool
    {
        do throws(FastNATError) {
            let loaded = try LoadedDatapath(for: .setUp)
            guard Set(try loaded.uplinks()).isSuperset(of: options.uplinks) else { return false }
            try body(loaded)
            return true
        } catch .notLoaded {
            return false
        }
    }

    // MARK: - Masquerade

    private func masqueradeRules() throws(CNIError) -> [MasqueradeRule] {
        guard let masquerade = options.masquerade else { return [] }
        var networks = masquerade.networks
        if networks.isEmpty { networks = addresses.map(\.network) }
        return try networks.map { network throws(CNIError) in
            guard network.length < network.family.bitWidth else {
                throw CNIError(
                    .invalidConfiguration,
                    "the container's address \(network) is no network that could be masqueraded: name it, as in "
                        + "\"masquerade\": {\"networks\": [\"10.244.0.0/16\"]}")
            }
            let uplink = if let named = masquerade.uplink { named } else { try uplink(for: network.family) }
            do throws(MasqueradeError) {
                return try MasqueradeRule(
                    network: network, uplink: uplink, exempt: masquerade.exempt.filter { $0.family == network.family })
            } catch {
                throw CNIError(.masquerade(error))
            }
        }
    }

    /// The uplink of the default route, if it is one of the configuration's, or the first of those.
    private func uplink(for family: IPFamily) throws(CNIError) -> String {
        let defaults = try translating { () throws(FastNATError) in try Loader.defaultUplinks(family) }
        let wanted = try PluginUplinks.wanted(options)
        return defaults.first { wanted.contains($0) } ?? wanted[0]
    }

    /// Masquerades what is not masqueraded yet. The network is other containers', too: its rule stays when this one goes.
    private func masquerade(_ rules: [MasqueradeRule], _ loaded: borrowing LoadedDatapath) throws(FastNATError) {
        if rules.isEmpty { return }
        let present = Set(try loaded.masquerades().map(\.rule.network))
        try loaded.masquerade(rules.filter { !present.contains($0.network) })
        try loaded.connect(to: addresses.map(\.address))
    }
}
