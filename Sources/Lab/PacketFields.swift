extension Packet {
    /// The IPv4 header, if it has one.
    public var ipv4: IPv4? {
        get { if case .ipv4(let header) = network { header } else { nil } }
        set { if let newValue { network = .ipv4(newValue) } }
    }

    /// The IPv6 header, if it has one.
    public var ipv6: IPv6? {
        get { if case .ipv6(let header) = network { header } else { nil } }
        set { if let newValue { network = .ipv6(newValue) } }
    }

    /// The ARP message, if it is one.
    public var arp: ARP? {
        get { if case .arp(let message) = network { message } else { nil } }
        set { if let newValue { network = .arp(newValue) } }
    }

    /// The TCP header, if it has one.
    public var tcp: TCP? {
        get { if case .tcp(let header) = transport { header } else { nil } }
        set { if let newValue { transport = .tcp(newValue) } }
    }

    /// The UDP header, if it has one.
    public var udp: UDP? {
        get { if case .udp(let header) = transport { header } else { nil } }
        set { if let newValue { transport = .udp(newValue) } }
    }

    /// The SCTP header, if it has one.
    public var sctp: SCTP? {
        get { if case .sctp(let header) = transport { header } else { nil } }
        set { if let newValue { transport = .sctp(newValue) } }
    }

    /// The ICMP header, if it has one.
    public var icmp: ICMP? {
        get { if case .icmp(let header) = transport { header } else { nil } }
        set { if let newValue { transport = .icmp(newValue) } }
    }

    /// IPv4's time to live or IPv6's hop limit; 0 without either.
    public var ttl: UInt8 {
        get { ipv4?.ttl ?? ipv6?.hopLimit ?? 0 }
        set {
            ipv4?.ttl = newValue
            ipv6?.hopLimit = newValue
        }
    }

    /// IPv4's TOS or IPv6's traffic class: DSCP and ECN.
    public var trafficClass: UInt8 {
        get { ipv4?.tos ?? ipv6?.trafficClass ?? 0 }
        set {
            ipv4?.tos = newValue
            ipv6?.trafficClass = newValue
        }
    }

    /// The differentiated services code point (6 bits).
    public var dscp: UInt8 {
        get { trafficClass >> 2 }
        set { trafficClass = newValue << 2 | trafficClass & 3 }
    }

    /// Explicit congestion notification (2 bits).
    public var ecn: UInt8 {
        get { trafficClass & 3 }
        set { trafficClass = trafficClass & 0xfc | newValue & 3 }
    }

    /// Where an IP packet comes from: its address, and its port or echo identifier (0 without one).
    public var source: Endpoint? {
        get { (ipv4?.source ?? ipv6?.source).map { Endpoint($0, port: sourcePort) } }
        set {
            guard let newValue else { return }
            ipv4?.source = newValue.address
            ipv6?.source = newValue.address
            tcp?.sourcePort = newValue.port
            udp?.sourcePort = newValue.port
            sctp?.sourcePort = newValue.port
            icmp?.identifier = newValue.port
        }
    }

    /// Where an IP packet goes to: its address, and its port or echo identifier (0 without one).
    public var destination: Endpoint? {
        get { (ipv4?.destination ?? ipv6?.destination).map { Endpoint($0, port: destinationPort) } }
        set {
            guard let newValue else { return }
            ipv4?.destination = newValue.address
            ipv6?.destination = newValue.address
            tcp?.destinationPort = newValue.port
            udp?.destinationPort = newValue.port
            sctp?.destinationPort = newValue.port
            icmp?.identifier = newValue.port
        }
    }

    /// The checksum of TCP, UDP or ICMP.
    public var transportChecksum: Checksum {
        get { tcp?.checksum ?? udp?.checksum ?? icmp?.checksum ?? .correct }
        set {
            tcp?.checksum = newValue
            udp?.checksum = newValue
            icmp?.checksum = newValue
        }
    }

    /// The Ethernet addresses, from and to.
    public var link: (source: MAC, destination: MAC)? {
        get { ethernet.map { ($0.source, $0.destination) } }
        set {
            guard let newValue else { return }
            ethernet?.source = newValue.source
            ethernet?.destination = newValue.destination
        }
    }

    private var sourcePort: UInt16 {
        tcp?.sourcePort ?? udp?.sourcePort ?? sctp?.sourcePort ?? icmp?.identifier ?? 0
    }
    private var destinationPort: UInt16 {
        tcp?.destinationPort ?? udp?.destinationPort ?? sctp?.destinationPort ?? icmp?.identifier ?? 0
    }
}
