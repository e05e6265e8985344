internal import Addresses
internal import CDatapath

extension Datapath {
    /// All masquerades with their counters, sorted by network. `name` gives the name of an interface's index.
    func masquerades(_ name: (UInt32) -> String) throws(FastNATError) -> [InstalledMasquerade] {
        try translating {
            try maps.masqueradeEntries().map { entry in
                let counters = try maps.counters(of: entry.id)
                return InstalledMasquerade(
                    rule: try entry.rule(uplink: name(entry.value.uplink)), packets: counters.packets,
                    bytes: counters.bytes, flows: counters.liveFlows, owner: entry.owner)
            }
        }
    }

    /// Removes the masquerades that a condition is true of. Their TCP connections drain; their UDP flows end, and so do the ports
    /// that they keep for containers.
    ///
    /// - Returns: how many there were.
    @discardableResult
    func removeMasquerades(_ isDoomed: (DatapathMaps.MasqueradeEntry) -> Bool) throws(FastNATError) -> Int {
        try translating {
            let present = try maps.masqueradeEntries()
            let doomed = present.filter(isDoomed)
            try carryOut(MasqueradeChange(removing: doomed, from: present)) {}
            return doomed.count
        }
    }

    /// Carries out a change and then `rest`, all of it or none, and ends the flows of masquerades that went, but for TCP
    /// connections, which drain; and the ports that are kept for containers.
    func carryOut(_ change: MasqueradeChange, _ rest: () throws -> Void) throws {
        try maps.carryOut(change, rest)
        try flush(change.gone.map(\.id), drains: true)
    }
}
