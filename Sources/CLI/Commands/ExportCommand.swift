internal import Addresses
internal import ArgumentParser
internal import FastNAT
internal import Rules

/// `fastnat export`
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Print rules of iptables or nftables that do what the mappings and masquerades do.",
        subcommands: [ExportIptablesCommand.self, ExportNftCommand.self])
}

/// `fastnat export iptables`
struct ExportIptablesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "iptables",
        abstract: "For iptables-restore --noflush, chains FASTNAT and FASTNAT-OUTBOUND in the table nat.")

    @Flag(name: .customLong("ipv6"), help: "For ip6tables-restore: those of IPv6.")
    var isIPv6 = false

    func run() throws {
        try reporting { () throws(FastNATError) in
            let (mappings, masquerades) = try present()
            print(RuleExport.iptables(mappings, masquerades, isIPv6 ? .ipv6 : .ipv4), terminator: "")
        }
    }
}

/// `fastnat export nft`
struct ExportNftCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nft", abstract: "For nft -f, a table inet fastnat of both families.")

    func run() throws {
        try reporting { () throws(FastNATError) in
            let (mappings, masquerades) = try present()
            print(RuleExport.nft(mappings, masquerades), terminator: "")
        }
    }
}

/// What is to be exported.
private func present() throws(FastNATError) -> ([PortMapping], [MasqueradeRule]) {
    let loaded = try LoadedDatapath(for: .read)
    return (try loaded.datapath.mappings().map(\.mapping), try loaded.masquerades().map(\.rule))
}
