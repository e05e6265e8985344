internal import Addresses
internal import CDatapath
internal import Glibc

extension Datapath {
    /// All masquerades with their counters, sorted by network. `name` gives the name of an interface's index.
    func masquerades(_ name: (UInt32) -> String) throws(FastNATError) -> [InstalledMasquerade] {
        try translating {
            try maps.masqueradeEntries().map { entry in
                let counters = try maps.counters(of: entry.value.id)
                return InstalledMasquerade(
                    rule: try entry.value.rule(
                        network: entry.network, uplink: name(entry.value.uplink), exempt: entry.exempt,
                        limits: entry.limits),
                    packets: counters.packets, bytes: counters.bytes, flows: counters.liveFlows)
            }
        }
    }

    /// Adds a masquerade. `source` is the address that the kernel sends from now, where the rule does not say one.
    func addMasquerade(_ rule: MasqueradeRule, uplink: UInt32, source: IPAddress? = nil) throws(FastNATError) {
        try translating {
            let present = try maps.masqueradeEntries()
            guard !present.contains(where: { $0.network == rule.network }) else {
                throw FastNATError.masqueradeExists(rule.network)
            }
            try maps.mend(present)
            try maps.insert(rule, uplink: uplink, source: source, beside: present)
        }
    }

    /// Removes the masquerade of a network. Its TCP connections drain; its UDP flows end, and so do the ports that it keeps
    /// for containers.
    func removeMasquerade(_ network: IPPrefix) throws(FastNATError) {
        try translating {
            guard let entry = try maps.masqueradeEntries().first(where: { $0.network == network }) else {
                throw FastNATError.noMasquerade(network)
            }
            try maps.remove(entry)
            var request = flush_request()
            request.mapping_id = entry.value.id
            request.protocol = UInt32(IPPROTO_UDP)
            request.patterns = 1
            _ = try flush(&request)
        }
    }
}
