extension NetworkNamespace {
    /// Runs `ip` with these command lines, in one process.
    public func ip(_ lines: [String]) throws(TestingError) {
        try command(["ip", "-batch", "-"], input: Array((lines.joined(separator: "\n") + "\n").utf8))
    }

    /// Makes a veth pair from here to another namespace, both ends up; a bridge may take the end that is here.
    public func connect(
        _ interface: String, to other: NetworkNamespace, _ otherInterface: String, bridge: String? = nil
    ) throws(TestingError) {
        var lines = ["link add \(interface) type veth peer name \(otherInterface) netns \(other.name)"]
        if let bridge { lines.append("link set \(interface) master \(bridge)") }
        try ip(lines + ["link set \(interface) up"])
        try other.ip(["link set \(otherInterface) up"])
    }

    /// Turns forwarding on, for both families.
    public func forward() throws(TestingError) {
        try setSystemControl("net.ipv4.ip_forward", "1")
        try setSystemControl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Makes the namespace complete checksums and cut segments itself, as if there were a wire behind `interface`.
    public func disableOffloads(_ interface: String) throws(TestingError) {
        try command(["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
    }

    /// The Ethernet address of an interface.
    public func linkAddress(of interface: String) throws(TestingError) -> Packet.MAC {
        let words = try command(["ip", "-br", "link", "show", "dev", interface]).output.split(separator: " ")
        guard words.count > 2 else { throw .malformed("the link \(interface): \(words)") }
        return try Packet.MAC(String(words[2]))
    }
}
