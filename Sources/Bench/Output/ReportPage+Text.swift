extension ReportPage {
    /// What a sceptical reader asks first. docs/benchmarks.md has the same in full.
    static let method = [
        "Topology: client, host and container are network namespaces joined by veth pairs; with \"bridge\", the container hangs on a "
            + "bridge of the host as Docker has it. Each path has namespaces of its own; they live side by side, and rounds take turns "
            + "between them in a new order each time.",
        "Packets of up to 64 flows and those to many ports, connections, response times and bulk are measured in several short turns a "
            + "round. Each is a sample, and ratios are medians of the ratios of turns, which paths take one after the other: what "
            + "neighbours leave of a shared processor varies from one second to the next.",
        "Before a path is measured, packets go through it one flow after the other and are looked at where they arrive: TTL, addresses, "
            + "ports, IPv4 and UDP checksums. While it is measured, TTL, addresses and ports still are. Answers over TCP and UDP are "
            + "compared with what was sent.",
        "Packets to the container are counted by an XDP program there, or, what redirect_peer brings past it, by a TC program behind it; "
            + "\"TC sink\": all by the TC program, which makes paths comparable that end in different places; \"stack\": by the filter of "
            + "a UDP socket, behind the container's whole stack.",
        "Packets are generated in the kernel (BPF_PROG_TEST_RUN with live frames) on one CPU, which also carries them to the end: the "
            + "generator's and the sink's time is in every figure, so ratios between paths are lower than between the paths' own costs.",
        "cpu: the attached program itself, by BPF_PROG_TEST_RUN: a program writes the frame of a random flow and calls it, minus the "
            + "same with an empty program, the least of several repetitions; only those count in which every frame was redirected.",
        "Both ends and the path share this machine's CPUs. Absolute figures say little about another machine; ratios say more.",
        "A veth is not a network card: there is no DMA, no interrupt, no receive hashing, and XDP on it takes segmentation offload "
            + "away from its peer. \"wire\" turns the client's offloads off, so that packets come as from a card.",
        "The reference, iptables-nft, has exactly Docker's rules for the published ports and nothing else, an accept rule for established "
            + "connections in front, and a connection tracking table large enough for all flows.",
    ]

    /// What the colours of bars mean.
    static let legend =
        "<ul class=\"legend\">"
        + [
            ("ours", "fastnat"), ("reference", PathKind.reference.rawValue), ("other", "others"),
            ("limit", "limits: programs that redirect and do nothing else"),
        ].map { kind, text in
            "<li><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" rx=\"2\" class=\"\(kind)\"/></svg>\(text)</li>"
        }.joined() + "</ul>"

    static let style = """
        :root { --page: #fff; --text: #1c2024; --quiet: #60646c; --line: #d9dce1; --ours: #1a7f5a; --reference: #8a6d1f;
          --other: #7b8591; --limit: #c2c8d0; --missed: #b3261e; }
        @media (prefers-color-scheme: dark) {
          :root { --page: #15181c; --text: #e6e8eb; --quiet: #9ba1a9; --line: #343a42; --ours: #3fbf8c; --reference: #d9b24a;
            --other: #808a96; --limit: #4a525c; --missed: #ff8a80; } }
        * { box-sizing: border-box; }
        body { margin: 0 auto; max-width: 1240px; padding: 1.5rem; background: var(--page); color: var(--text);
          font: 16px/1.5 system-ui, sans-serif; }
        h1 { margin: 0; font-size: 1.7rem; }
        h2 { margin: 2.5rem 0 0; padding-top: 1rem; border-top: 1px solid var(--line); font-size: 1.3rem; }
        header p, section > p { max-width: 85ch; color: var(--quiet); }
        nav a { margin-right: 1rem; color: var(--ours); }
        .charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1.5rem 2rem; }
        figure { margin: 0; }
        figcaption { display: flex; justify-content: space-between; gap: 1rem; font-weight: 600; }
        figcaption small { color: var(--quiet); font-weight: 400; text-align: right; }
        svg { display: block; width: 100%; height: auto; }
        svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
        svg .value { font-variant-numeric: tabular-nums; }
        svg .none { fill: var(--quiet); font-style: italic; }
        .ours { fill: var(--ours); } .reference { fill: var(--reference); } .other { fill: var(--other); } .limit { fill: var(--limit); }
        .spread { stroke: var(--text); stroke-width: 1.5; opacity: .75; }
        table { border-collapse: collapse; font-size: .875rem; }
        th, td { padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
        svg .sample { fill: var(--page); stroke: var(--text); stroke-width: 1; opacity: .8; }
        .legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; font-size: .875rem; }
        .legend svg { display: inline-block; width: .75rem; margin-right: .4rem; vertical-align: baseline; }
        .wide { overflow-x: auto; }
        .held td:last-child { color: var(--ours); font-weight: 600; }
        .beyond td:last-child { color: var(--other); font-weight: 600; }
        .missed td:last-child { color: var(--missed); font-weight: 600; }
        .unmeasured { color: var(--quiet); }
        details { margin-top: 1rem; overflow-x: auto; color: var(--quiet); }
        li { max-width: 85ch; margin-bottom: .4rem; }
        """
}
