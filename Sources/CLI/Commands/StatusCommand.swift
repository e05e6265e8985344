internal import ArgumentParser
internal import FastNAT

/// `fastnat status`
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show interfaces, hooks, how full the tables are, and why packets were not forwarded.")

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() throws {
        var status: Status?
        try reporting { () throws(FastNATError) in status = try LoadedDatapath(for: .read).status() }
        guard let status else { return }
        if json { return try printJSON(StatusRecord(status)) }
        print(programs(status))
        print("\nhost      \(hostAccess(status))")
        let wide = status.flows.wide > 0 ? ", \(status.flows.wide) over IPv6, which take two places each" : ""
        print("flows     \(status.flows.flows) of \(status.flows.limit)\(wide)")
        print("half-open \(status.flows.halfOpen) of \(status.flows.halfOpenLimit)")
        print("mappings  \(status.mappings)")
        if status.masquerades > 0 { print("networks  \(status.masquerades) masqueraded") }
        let timeouts = status.timeouts
        print(
            "timeouts  TCP open \(timeouts.tcpOpen) s, half-open \(timeouts.tcpHalfOpen) s, "
                + "closing \(timeouts.tcpClosing) s; UDP \(timeouts.udp) s; ICMP \(timeouts.icmp) s")
        print("kernel    uses \(status.featuresUsed.joined(separator: ", "))")
        if !status.featuresMissed.isEmpty {
            print("          without \(status.featuresMissed.joined(separator: ", "))")
        }
        print("\n" + reasons(status))
    }

    private func programs(_ status: Status) -> String {
        var table = Table("INTERFACE", "ROLE", "HOOK", "STATE", "WHY")
        for program in status.programs {
            table.add(
                program.interface, program.role.rawValue, program.hook.rawValue,
                program.isAttached ? "attached" : "gone", program.reason ?? "")
        }
        return table.render()
    }

    private func hostAccess(_ status: Status) -> String {
        switch status.hostAccess {
        case .on(let hooks): "reaches published ports by \(hooks.joined(separator: ", "))"
        case .off(let reason): "does not reach published ports: \(reason)"
        }
    }

    private func reasons(_ status: Status) -> String {
        var table = Table("NOT FORWARDED", "PACKETS", "BECAME", "MEANING")
        for reason in status.reasons {
            table.add(reason.name, String(reason.packets), reason.isDrop ? "dropped" : "passed", reason.text)
        }
        return table.render()
    }
}
