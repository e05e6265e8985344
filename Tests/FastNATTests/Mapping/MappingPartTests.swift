import Addresses
import FastNAT
import Testing

@Suite struct PortRangeTests {
    @Test(arguments: [("1", 1, 1, 1), ("80", 80, 80, 1), ("8000-8099", 8000, 8099, 100), ("1-65535", 1, 65535, 65535)])
    func `ports parse and print back`(text: String, first: UInt16, last: UInt16, count: Int) throws {
        let ports = try PortRange(parsing: text)
        #expect(ports.first == first)
        #expect(ports.last == last)
        #expect(ports.count == count)
        #expect(ports.description == text)
    }

    @Test func `a range of one port prints as the port`() throws {
        #expect(try PortRange(parsing: "80-80").description == "80")
    }

    @Test(arguments: [
        ("", "a port is missing"), ("-", "a port is missing"), ("80-", "a port is missing"),
        ("-80", "a port is missing"),
        ("http", "not a decimal number"), ("80-90-100", "not a decimal number"), ("+80", "not a decimal number"),
        ("080", "a leading zero"), ("65536", "above 65535"), ("99999999999999999999", "above 65535"),
        ("0", "port 0 is not a port"), ("0-80", "port 0 is not a port"), ("00", "a leading zero"),
        ("90-80", "ends before it begins; write 80-90"), ("80-0", "ends before it begins"),
    ])
    func `wrong ports are refused with the reason`(text: String, reason: String) {
        let error = #expect(throws: MappingError.self) { try PortRange(parsing: text) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }

    @Test(arguments: [
        ("80", "80", true), ("80", "81", false), ("80-90", "90-95", true), ("80-90", "91-95", false),
        ("1-65535", "443", true), ("85", "80-90", true),
    ])
    func `ranges overlap when they share a port`(left: String, right: String, overlap: Bool) throws {
        let (left, right) = try (PortRange(parsing: left), PortRange(parsing: right))
        #expect(left.overlaps(right) == overlap)
        #expect(right.overlaps(left) == overlap)
    }
}

@Suite struct ListenTests {
    @Test(arguments: [
        ("80", "80/tcp"),
        ("53/udp", "53/udp"),
        ("9/sctp", "9/sctp"),
        ("8000-8099/tcp", "8000-8099/tcp"),
        ("192.0.2.1:80", "192.0.2.1:80/tcp"),
        ("192.0.2.1:80-81/udp", "192.0.2.1:80-81/udp"),
        ("127.0.0.1:80", "127.0.0.1:80/tcp"),
        ("[2001:DB8::1]:443", "[2001:db8::1]:443/tcp"),
        ("0.0.0.0:80", "0.0.0.0:80/tcp"),
        ("[::]:80/udp", "[::]:80/udp"),
    ])
    func `a listen part parses and prints in full`(text: String, canonical: String) throws {
        let listen = try Listen(parsing: text)
        #expect(listen.description == canonical)
        #expect(try Listen(parsing: canonical) == listen)
    }

    @Test(arguments: [
        ("80", nil, nil), ("0.0.0.0:80", nil, .ipv4), ("[::]:80", nil, .ipv6),
        ("192.0.2.1:80", IPAddress(192, 0, 2, 1), IPFamily.ipv4),
    ])
    func `an unspecified address means any of its family`(text: String, address: IPAddress?, family: IPFamily?) throws {
        let listen = try Listen(parsing: text)
        #expect(listen.address == address)
        #expect(listen.family == family)
    }

    @Test(arguments: [
        ("", "there is nothing"),
        ("/tcp", "there is nothing"),
        ("80/", "is not a protocol"),
        ("80/icmp", #""icmp" is not a protocol"#),
        ("80/TCP", #""TCP" is not a protocol"#),
        ("80/tcp/udp", #""tcp/udp" is not a protocol"#),
        (":80", "there is no address before the colon"),
        ("192.0.2.1", "the port is missing"),
        ("192.0.2.1:", "a port is missing"),
        ("192.0.2.1:0", "port 0 is not a port"),
        ("192.0.2.1:90-80", "write 80-90"),
        ("192.0.2.256:80", "256 is larger than 255"),
        ("localhost:80", "names are not resolved"),
        ("::1:80", "an IPv6 address needs brackets"),
        ("2001:db8::1", "an IPv6 address needs brackets"),
        ("[::1:80", "the closing bracket is missing"),
        ("[::1]80", "no colon and port after the bracket"),
        ("[::1]", "no colon and port after the bracket"),
        ("[::1]:", "a port is missing"),
        ("[]:80", "there is no address"),
        ("[192.0.2.1]:80", "brackets are for IPv6"),
        ("[::ffff:192.0.2.1]:80", "the IPv4 address itself, 192.0.2.1"),
        ("[fe80::1%eth0]:80", "a zone (%interface) is not supported"),
        ("224.0.0.1:80", "cannot listen on the multicast address 224.0.0.1"),
        ("[ff02::1]:80", "cannot listen on the multicast address ff02::1"),
        ("255.255.255.255:80", "cannot listen on the broadcast address"),
        ("80 ", "there is a space"),
        ("192.0.2.0/24:80", "is not a protocol"),
    ])
    func `a wrong listen part is refused with its reason`(text: String, reason: String) {
        let error = #expect(throws: MappingError.self) { try Listen(parsing: text) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }
}

@Suite struct TargetTests {
    @Test(arguments: [
        ("172.17.0.2:80", "172.17.0.2:80"), ("172.17.0.2:80-80", "172.17.0.2:80"),
        ("[2001:db8:0::2]:8000-8099", "[2001:db8::2]:8000-8099"), ("169.254.1.1:80", "169.254.1.1:80"),
    ])
    func `a target parses and prints back`(text: String, canonical: String) throws {
        let target = try Target(parsing: text)
        #expect(target.description == canonical)
        #expect(try Target(parsing: canonical) == target)
    }

    @Test(arguments: [
        ("", "there is nothing"),
        ("80", "the address is missing"),
        ("172.17.0.2", "the port is missing"),
        ("172.17.0.2:80/tcp", "the protocol belongs to the listen part"),
        ("2001:db8::2:80", "an IPv6 address needs brackets"),
        ("0.0.0.0:80", "cannot forward to the unspecified address"),
        ("[::]:80", "cannot forward to the unspecified address"),
        ("127.0.0.1:80", "cannot forward to the loopback address"),
        ("[::1]:80", "cannot forward to the loopback address"),
        ("239.0.0.1:80", "cannot forward to the multicast address"),
        ("[ff05::1]:80", "cannot forward to the multicast address"),
        ("255.255.255.255:80", "cannot forward to the broadcast address"),
        ("[fe80::1]:80", "cannot forward to the link-local address"),
    ])
    func `a wrong target is refused with its reason`(text: String, reason: String) {
        let error = #expect(throws: MappingError.self) { try Target(parsing: text) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }
}
