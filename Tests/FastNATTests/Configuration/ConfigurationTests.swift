import Configuration
import FastNAT
import Testing

@Suite struct ConfigurationTests {
    @Test func `every key is read`() throws {
        let state = try read(
            """
            uplinks:
              - eth0
              - interface: eth1
                mode: xdp
            internal: [docker0]
            mode: tc
            attach: clsact
            max-flows: 4096
            timeouts:
              udp: 180
            mappings:
              - listen: 8080
                target: 172.17.0.2:80
              - listen: '[::]:53-54/udp'
                target: '[fd00::2]:53'
                allow: [fd00::/8, 2001:db8::1]
                force: true
                limit-flows: 100
                limit-rate: 10
                limit-rate-per-source: 90/m
            masquerade:
              - network: 172.17.0.0/16
                iface: eth0
              - network: fd00:17::/64
                iface: eth1
                to: 2001:db8::1
                ports: 32768-60999
                exempt: [fd00::/8, 2001:db8:9::/48]
                type: eim
                filter: port
                limit-flows-per-source: 512
            """)
        #expect(state.uplinks == [.init("eth0", mode: .tc), .init("eth1", mode: .xdp)])
        #expect(state.containers == ["docker0"] && state.attachment == .clsact && state.maximumFlows == 4096)
        #expect(state.timeouts?.udp == 180 && state.timeouts?.tcpOpen == 7440)
        #expect(
            state.mappings == [
                .init(try PortMapping(parsing: "8080 172.17.0.2:80")),
                .init(
                    try PortMapping(
                        parsing: "[::]:53-54/udp [fd00::2]:53 allow=fd00::/8,2001:db8::1 "
                            + "limit-flows=100 limit-rate=10/s limit-rate-per-source=90/m"), force: true),
            ])
        #expect(
            state.masquerades?.map(\.description) == [
                "172.17.0.0/16 iface=eth0",
                "fd00:17::/64 iface=eth1 to=2001:db8::1 ports=32768-60999 exempt=2001:db8:9::/48,fd00::/8 type=eim "
                    + "filter=port limit-flows-per-source=512",
            ])
        #expect(state.owner.text == "file")
    }

    private static let masquerade = "masquerade:\n- network: 10.0.0.0/8\n  iface: eth0\n  "

    @Test(arguments: ["", "# nothing\n", "---\n", "{}"])
    func `what the file leaves out is left alone`(text: String) throws {
        #expect(try read(text) == DesiredState(owner: Configuration.owner))
    }

    @Test(arguments: ["mappings:", "mappings: []", "mappings: ~"])
    func `an empty section is not a missing one`(text: String) throws {
        #expect(try read(text).mappings == [])
        #expect(try read(text).uplinks == nil)
    }

    @Test(arguments: [
        ("uplink: [eth0]", "1:1", "did you mean uplinks?"), ("mapings: []", "1:1", "did you mean mappings?"),
        ("timeouts: {tcp: 9}", "1:12", "did you mean tcp-half-open?"), ("Mode: tc", "1:1", "did you mean mode?"),
        ("mappings:\n  - {listen: 80, target: '1.2.3.4:5', alow: []}", "2:39", "did you mean allow?"),
        ("- eth0", "1:1", "write keys and values here: uplinks:"), ("uplinks: eth0", "1:10", "write a list here"),
        ("uplinks: [eth0, eth0]", "1:17", "named twice"), ("uplinks: [{mode: tc}]", "1:11", "say which interface"),
        ("uplinks: [eth0]\nmode: fast", "2:7", "\"fast\" is none of auto, xdp, tc"),
        ("mode: tc", "1:1", "mode belongs to uplinks"),
        ("max-flows: many", "1:12", "\"many\" is not a number of flows"),
        ("timeouts:\n  udp: 5", "2:8", "give 120 to 86400 s"), ("timeouts:\n  udp: -1", "2:8", "whole number"),
        ("mappings:\n  - listen: 80", "2:5", "a mapping has a listen and a target"),
        ("mappings:\n- listen: 0\n  target: 1.2.3.4:5", "2:11", "port 0 is not a port"),
        ("mappings:\n- listen: 80\n  target: 1.2.3.4", "3:11", "the port is missing"),
        ("mappings:\n- listen: 80\n  target: 1.2.3.4:5\n  allow: []", "4:10", "nobody may connect"),
        ("mappings:\n- listen: 80\n  target: 1.2.3.4:5\n  allow: [10.0.0.0/33]", "4:11", "10.0.0.0/33"),
        ("mappings:\n- listen: 80\n  target: 1.2.3.4:5\n  allow: [fd00::/8]", "2:3", "can never match"),
        ("mappings:\n- listen: 80\n  target: 1.2.3.4:5\n  force: perhaps", "4:10", "not true or false"),
        ("mappings:\n- listen: 80\n  target: 1.2.3.4:5\n  limit-rate: 10/h", "4:15", "10/s, 90/m"),
        ("mappings:\n- {listen: 70-90, target: '1.2.3.4:5'}\n- {listen: 80, target: '1.2.3.4:5'}", "3:3", "at 2:3"),
        ("masquerades: []", "1:1", "did you mean masquerade?"), ("masquerade: eth0", "1:13", "write a list here"),
        ("masquerade:\n- iface: eth0", "2:3", "a masquerade has a network and an iface"),
        ("masquerade:\n- {network: 10.0.0.1/8, iface: eth0}", "2:13", "10.0.0.0/8"),
        (masquerade + "port: 1-9", "4:3", "did you mean ports?"), (masquerade + "ports: 9-1", "4:10", "1-9"),
        (masquerade + "to: fd00::1", "4:7", "another address family"), (masquerade + "to: x", "4:7", "x"),
        (masquerade + "to: 127.0.0.1", "4:7", "cannot be seen as"),
        (masquerade + "exempt: [192.0.2.0/24, fd00::/8]", "4:26", "another address family"),
        (masquerade + "exempt: [192.0.2.1/24]", "4:12", "192.0.2.0/24"),
        (masquerade + "type: cone", "4:9", "none of symmetric, eim"), (masquerade + "filter: port", "4:11", "type eim"),
        (masquerade + "type: eim\n  filter: all", "5:11", "none of endpoint, address, port"),
        (masquerade + "iface: eth0", "3:3", "iface is there twice"),
        ("uplinks: [eth1]\n" + masquerade, "4:10", "eth0 is none of the uplinks of this file"),
        (masquerade + "\n- {network: 10.0.0.0/8, iface: eth1}", "5:13", "masqueraded twice"),
        ("uplinks: [eth0", "2:1", "this is not YAML"), ("mode: tc\nmode: tc", "1:1", "mode is there twice"),
        ("uplinks: [eth0]\n\tmode: tc", "2:1", "this is not YAML"),
    ])
    func `what is wrong is said with its place`(text: String, position: String, reason: String) {
        let error = #expect(throws: ConfigurationError.self) { try read(text) }
        let description = error?.description ?? ""
        #expect(description.hasPrefix("test.yaml:\(position): "), "\(description)")
        #expect(description.contains(reason), "\(description)")
    }

    @Test func `everything that is wrong is said at once, in order`() {
        let error = #expect(throws: ConfigurationError.self) { try read("max-flows: x\nmapping: []\nattach: y\n") }
        #expect(error?.problems.map(\.position?.line) == [1, 2, 3])
    }

    @Test func `what is written is read back`() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            let state = try DesiredState.random(&random)
            let text = Configuration.text(state)
            #expect(try read(text) == state, "\(text)")
        }
    }

    private func read(_ text: String) throws -> DesiredState {
        try Configuration(parsing: text, file: "test.yaml").state
    }
}

extension DesiredState {
    /// Any state that a file can describe.
    fileprivate static func random(_ random: inout some RandomNumberGenerator) throws -> DesiredState {
        func perhaps<Value>(_ value: Value) -> Value? { Bool.random(using: &random) ? value : nil }
        var state = DesiredState(owner: Configuration.owner)
        let names = ["eth0", "enp3s0.100", "Null", "null", "on", "1", "a:b", "veth'7", "-", "#x", "ü", "[x", "x:"]
        state.uplinks = perhaps(
            names.shuffled(using: &random).prefix(2).map {
                .init($0, mode: HookMode.allCases.randomElement(using: &random) ?? .tc)
            })
        let uplinks = Set(state.uplinks?.map(\.name) ?? [])
        state.containers =
            perhaps(names.filter { !uplinks.contains($0) }.shuffled(using: &random).prefix(2).map(\.self)) ?? []
        state.attachment = TCAttachment.allCases.randomElement(using: &random) ?? .auto
        state.maximumFlows = perhaps(.random(in: 1024...1_000_000, using: &random))
        var timeouts = Timeouts()
        timeouts.udp = .random(in: 120...1000, using: &random)
        timeouts.tcpOpen = .random(in: 1...1000, using: &random)
        state.timeouts = perhaps(timeouts)
        let mappings = try [
            "80 172.17.0.2:80", "81-90/udp 172.17.0.2:1-10", "192.0.2.1:443 172.17.0.2:4 allow=10.0.0.0/8,192.0.2.7",
            "90/sctp 172.17.0.2:90 limit-flows=9 limit-rate-per-source=90/m", "[::]:80 [fd00::2]:80",
            "[2001:db8::1]:7/udp [fd00::2]:7 allow=::/0", "0.0.0.0:99 [fd00::2]:80", "192.0.2.1:5/sctp 172.17.0.2:5",
            "[::]:6-8/sctp [fd00::2]:6-8",
        ].map { DesiredState.Mapping(try PortMapping(parsing: $0), force: .random(using: &random)) }
        state.mappings = perhaps(mappings.shuffled(using: &random).prefix(3).map(\.self))
        let masquerades = try [
            "masquerade: [{network: 10.0.0.0/8, iface: eth0}, {network: 10.1.0.0/16, iface: on, to: 192.0.2.1}]",
            "masquerade: [{network: fd00::/8, iface: \"a:b\", ports: 7, exempt: [fd00:1::/32], type: eim}]",
            "masquerade: [{network: '::/0', iface: eth0, type: eim, filter: endpoint, limit-rate: 9/m}]",
            "masquerade: []",
        ].map { try Configuration(parsing: $0, file: "test.yaml").state.masquerades }
        if state.uplinks == nil { state.masquerades = masquerades.randomElement(using: &random) ?? nil }
        return state
    }
}
