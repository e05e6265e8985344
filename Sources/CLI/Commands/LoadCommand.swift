public import ArgumentParser
public import FastNAT

extension HookMode: ExpressibleByArgument {}
extension TCAttachment: ExpressibleByArgument {}

/// `fastnat load`
struct LoadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Attach to the uplinks, pin everything, and return: no daemon stays.",
        discussion: "Run again, it brings programs up to date and adds interfaces; flows and mappings stay.")

    @Option(name: .customLong("iface"), help: "An interface towards clients; may be repeated.")
    var uplinks: [String]

    @Option(
        name: .customLong("internal"),
        help: "An interface towards containers; may be repeated. Those that mappings lead to are found without it.")
    var containers: [String] = []

    @Option(help: "Hooks on uplinks: auto (native XDP where it is safe and faster, TC always), xdp, or tc.")
    var mode: HookMode = .auto

    @Option(help: "How to attach at TC: auto (tcx where the kernel has it, else clsact), tcx, or clsact.")
    var attach: TCAttachment = .auto

    @Option(help: "Flows at most, 1024 to 16777216; over IPv6 each counts twice. Default: 262144.")
    var maxFlows: Int?

    @Option(help: "Seconds after which a TCP connection that is not established ends. Default: 240.")
    var tcpHalfOpenTimeout: UInt32?

    @Option(help: "Seconds without a packet after which an established TCP connection ends. Default: 7440.")
    var tcpOpenTimeout: UInt32?

    @Option(help: "Seconds after which a closed or reset TCP connection ends. Default: 240.")
    var tcpClosingTimeout: UInt32?

    @Option(help: "Seconds without a packet after which a UDP flow ends, 120 or more. Default: 300.")
    var udpTimeout: UInt32?

    @Option(help: "Seconds without a packet after which an ICMP echo ends, 60 or more. Default: 60.")
    var icmpTimeout: UInt32?

    @Flag(name: .shortAndLong, help: "Print the verifier's log when the kernel refuses a program.")
    var verbose = false

    func validate() throws {
        if uplinks.isEmpty { throw ValidationError("name at least one uplink: --iface eth0") }
    }

    func run() throws {
        var request = LoadRequest(uplinks: uplinks)
        request.containers = containers
        request.mode = mode
        request.attachment = attach
        request.maximumFlows = maxFlows
        request.timeouts = TimeoutChanges(
            tcpHalfOpen: tcpHalfOpenTimeout, tcpOpen: tcpOpenTimeout, tcpClosing: tcpClosingTimeout, udp: udpTimeout,
            icmp: icmpTimeout)
        try reporting(verbose: verbose) { () throws(FastNATError) in
            for problem in try Loader.load(request) { complain("fastnat: loaded, but \(problem)") }
        }
    }
}
