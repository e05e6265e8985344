extension Target {
    /// All of them, in the order of the workloads. Where fastnat could take either hook, `fastnat-tc` is judged: `auto` takes it
    /// on a veth. Its packets are counted at TC, which both it and what it is compared with come to.
    static let all: [Target] = packets + outbound + streams + connections + responses + newFlows + ports + flows + time

    private static let packets: [Target] = [
        Target(.pps, "direct, 1 flow", metric: "packets", .fastnatXDP, .times(5.5, .iptablesNFT)),
        Target(.pps, "direct, 1 flow", metric: "packets", .fastnatXDP, .times(0.92, .redirectXDP)),
        Target(.pps, "direct, 1 flow, TC sink", metric: "packets", .fastnatTC, .times(3.1, .iptablesNFT)),
        Target(.pps, "direct, 1 flow, TC sink", metric: "packets", .fastnatTC, .times(0.97, .redirectTC)),
        Target(.pps, "bridge, 1 flow", metric: "packets", .fastnatXDP, .times(6.5, .iptablesNFT)),
        Target(.pps, "bridge, 1 flow, TC sink", metric: "packets", .fastnatTC, .times(3.5, .iptablesNFT)),
        Target(.pps, "direct, 64 k flows", metric: "packets", .fastnatXDP, .times(5, .iptablesNFT)),
        Target(.pps, "direct, 64 k flows, TC sink", metric: "packets", .fastnatTC, .times(3.5, .iptablesNFT)),
        Target(.pps, "direct, 1 M flows", metric: "packets", .fastnatXDP, .times(5, .iptablesNFT)),
        Target(.pps, "direct, 1 M flows, TC sink", metric: "packets", .fastnatTC, .times(3.5, .iptablesNFT)),
    ]

    private static let outbound: [Target] = [PathKind.fastnatTC, .fastnatXDP].flatMap { path in
        [
            Target(
                .outbound, "replies, 1 flow", metric: "packets", path,
                .lead(0.9, .pps, "direct, 1 flow", metric: "packets")),
            Target(
                .outbound, "replies, 64 k flows", metric: "packets", path,
                .lead(0.9, .pps, "direct, 64 k flows", metric: "packets")),
            Target(.outbound, "new", metric: "new flows", path, .lead(0.9, .newflow, "direct", metric: "new flows")),
        ]
    }

    private static let streams: [Target] =
        [PathKind.fastnatTC, .fastnatAuto].flatMap { path in
            ["throughput", "efficiency"].flatMap { metric in
                [Bound.times(1, .routing), .times(1.1, .iptablesNFT)].map { bound in
                    Target(
                        .bulk, "1 stream up", "4 streams up", "1 stream down", "4 streams down", metric: metric, path,
                        bound, label: "1 and 4 streams, both directions")
                }
            }
        } + [
            Target(
                .bulk, "1 stream up, wire", metric: "throughput", .fastnatAuto, .best(0.95, [.fastnatTC, .fastnatXDP]))
        ]

    private static let connections: [Target] = [
        Target(.cps, "direct", metric: "connections", .fastnatTC, .times(1.3, .iptablesNFT)),
        Target(.cps, "direct", metric: "connections", .fastnatTC, .times(1.05, .routing)),
        Target(.cps, "bridge", metric: "connections", .fastnatTC, .times(1.45, .iptablesNFT)),
        Target(.rules, "10000 ports", metric: "connections", .fastnatTC, .times(20, .iptablesNFT)),
        Target(.rules, "10000 ports", metric: "connections kept", .fastnatTC, .value(0.97)),
    ]

    private static let responses: [Target] = ["p50", "p99"].map { metric in
        Target(
            .rr, "direct, TCP", "direct, UDP", metric: metric, .fastnatTC, .times(0.75, .iptablesNFT),
            label: "TCP and UDP")
    }

    private static let newFlows: [Target] =
        [
            Target(.newflow, "direct", metric: "new flows", .fastnatXDP, .times(4, .iptablesNFT)),
            Target(.newflow, "direct, TC sink", metric: "new flows", .fastnatTC, .times(3.3, .iptablesNFT)),
        ]
        + [PathKind.fastnatTC, .fastnatXDP].flatMap { path in
            [
                Target(.rules, "1000 ports", metric: "new flows", path, .times(100, .iptablesNFT)),
                Target(.rules, "1000 ports", metric: "new flows", path, .times(3.5, .nftables)),
            ]
        }

    private static let ports: [Target] = [PathKind.fastnatTC, .fastnatXDP].flatMap { path in
        [
            Target(
                .rules, "10 ports", "100 ports", "1000 ports", "10000 ports", metric: "packets kept", path,
                .value(0.97), label: "10 to 10,000 ports"),
            Target(.rules, "10000 ports", metric: "adding one, in a program", path, .value(1)),
        ]
    }

    private static let flows: [Target] = [
        Target(.flows, "memory", metric: "a flow", .fastnatTC, .times(0.5, .iptablesNFT)),
        Target(.flows, "4 M opened", metric: "held", .fastnatTC, .value(4_000_000)),
    ]

    private static let time: [Target] = [PathKind.fastnatTC, .fastnatXDP].flatMap { path in
        [("1 flow", 60.0), ("128 k flows", 110), ("1 M flows", 180)].map { flows, limit in
            Target(.cpu, flows, metric: "program", path, .value(limit))
        }
    }
}
