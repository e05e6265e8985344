internal import Addresses
internal import FastNAT

/// What it takes to masquerade the networks of Docker's that are to be, and no others of its own.
struct MasqueradePlan {
    struct Difference {
        let text: String
        let owner: MappingOwner
    }

    struct Refusal {
        let network: IPPrefix
        let owner: MappingOwner
        let reason: any Error
    }

    private let present: [MappingOwner: Set<MasqueradeRule>]
    private let others: [IPPrefix: MappingOwner?]
    private var wanted: [MappingOwner: Set<MasqueradeRule>] = [:]
    private(set) var refusals: [Refusal] = []

    init(beside installed: [InstalledMasquerade], of owners: DockerOwners) {
        let (own, foreign) = (
            installed.filter { $0.owner.map(owners.contains) ?? false },
            installed.filter { !($0.owner.map(owners.contains) ?? false) }
        )
        present = own.reduce(into: [:]) { rules, masquerade in
            if let owner = masquerade.owner { rules[owner, default: []].insert(masquerade.rule) }
        }
        others = Dictionary(foreign.map { ($0.rule.network, $0.owner) }) { first, _ in first }
    }

    mutating func add(_ masquerade: Publications.Masquerade, uplink: String?) {
        do {
            if let other = others[masquerade.network] {
                throw FastNATError.masqueradeExists(masquerade.network, owner: other)
            }
            guard let uplink else { throw NoUplink(network: masquerade.network) }
            let rule = try MasqueradeRule(network: masquerade.network, uplink: uplink, source: masquerade.source)
            wanted[masquerade.owner, default: []].insert(rule)
        } catch {
            refusals.append(Refusal(network: masquerade.network, owner: masquerade.owner, reason: error))
        }
    }

    /// Those that have gone first: a network that was made anew, as `bridge` is with each start of Docker, is another owner's and
    /// has the addresses of the one before.
    private var changed: [MappingOwner] {
        let changed = Set(present.keys).union(wanted.keys).filter { present[$0] != wanted[$0] }
        return changed.sorted { (wanted[$0] == nil ? 0 : 1, $0.text) < (wanted[$1] == nil ? 0 : 1, $1.text) }
    }

    var differences: [Difference] {
        changed.flatMap { owner in
            let (old, new) = (present[owner] ?? [], wanted[owner] ?? [])
            let texts = old.subtracting(new).map { "- \($0.line)" } + new.subtracting(old).map { "+ \($0.line)" }
            return texts.sorted().map { Difference(text: $0, owner: owner) }
        }
    }

    /// Carries it out, network by network. Returns why not, for those where it cannot be.
    func carryOut(_ loaded: borrowing LoadedDatapath) -> [MappingOwner: FastNATError] {
        var failures: [MappingOwner: FastNATError] = [:]
        for owner in changed {
            do throws(FastNATError) {
                try loaded.replaceMasquerades(of: owner, with: (wanted[owner] ?? []).sorted { $0.line < $1.line })
            } catch {
                failures[owner] = error
            }
        }
        return failures
    }
}

/// It cannot be told by which uplink a network's packets leave.
private struct NoUplink: Error, CustomStringConvertible {
    let network: IPPrefix

    var description: String {
        "no uplink of fastnat has the \(network.family) default route: name the one for masquerading with --iface"
    }
}

extension MasqueradeRule {
    fileprivate var line: String { "masquerade \(network) by \(uplink)\(source.map { " as \($0)" } ?? "")" }
}
