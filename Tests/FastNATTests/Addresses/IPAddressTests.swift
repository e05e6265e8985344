import Addresses
import Testing

@Suite struct IPAddressTests {
    @Test(arguments: [
        ("0.0.0.0", IPFamily.ipv4, [0, 0, 0, 0]),
        ("192.0.2.1", .ipv4, [192, 0, 2, 1]),
        ("255.255.255.255", .ipv4, [255, 255, 255, 255]),
        ("::", .ipv6, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("::1", .ipv6, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ("2001:db8::8:800:200c:417a", .ipv6, [32, 1, 13, 184, 0, 0, 0, 0, 0, 8, 8, 0, 32, 12, 65, 122]),
        ("ff02::2", .ipv6, [255, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]),
    ])
    func `a canonical address parses to its bytes and prints back`(
        text: String, family: IPFamily, bytes: [UInt8]
    ) throws {
        let address = try IPAddress(parsing: text)
        #expect(address.family == family)
        #expect(address.bytes == bytes)
        #expect(address.description == text)
        #expect(IPAddress(bytes: bytes) == address)
        #expect(IPAddress(mapped: address.mapped) == address)
        #expect(IPAddress(bytes: address.mappedBytes) == address)
    }

    @Test(arguments: [
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
        ("0:0:0:0:0:0:0:0", "::"),
    ])
    func `an IPv6 address prints in its short form`(text: String, short: String) throws {
        #expect(try IPAddress(parsing: text).description == short)
    }

    @Test(arguments: [
        ("", "there is no address"),
        (" 192.0.2.1", "no spaces"),
        ("192.0.2.1\n", "control characters"),
        ("192.0.2.1\0", "control characters"),
        ("192.0.2", "only 3 of the four"),
        ("1", "only 1 of the four"),
        ("192.0.2.", "number 4 of the four is missing"),
        (".0.2.1", "number 1 of the four is missing"),
        ("192..2.1", "number 2 of the four is missing"),
        ("192.0.2.1.5", "more after the fourth"),
        ("192.0.2.256", "256 is larger than 255"),
        ("192.0.2.99999999999999999999999", "is larger than 255"),
        ("192.0.02.1", "02 has a leading zero"),
        ("192.0.2.0x1", #""0x1" is not a decimal number"#),
        ("192.0.2.-1", #""-1" is not a decimal number"#),
        ("192.0.2.١", "is not a decimal number"),
        ("example.com", "names are not resolved"),
        ("192.0.2.1/24", "a prefix length does not belong here"),
        ("fe80::1%eth0", "a zone (%interface) is not supported"),
        ("[::1]", "brackets do not belong here"),
        (":::", "not an IPv6 address"),
        ("1:2:3:4:5:6:7:8:9", "not an IPv6 address"),
        ("2001:db8::12345", "not an IPv6 address"),
        ("::1.2.3.04", "not an IPv6 address"),
        ("2001:db8::1:80:0000:0000:0000:0000:0000:0000:0000", "not an IPv6 address"),
        ("::ffff:192.0.2.1", "expected the IPv4 address itself, 192.0.2.1"),
        ("::ffff:c000:201", "expected the IPv4 address itself, 192.0.2.1"),
    ])
    func `a wrong address is refused with its reason`(text: String, reason: String) {
        let error = #expect(throws: AddressError.self) { try IPAddress(parsing: text) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
        #expect(error?.input == text)
    }

    @Test func `an IPv4 address is mapped into IPv6 in network order`() {
        let address = IPAddress(192, 0, 2, 1)
        #expect(address.mappedBytes == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1])
        withUnsafeBytes(of: address.mapped) { #expect(Array($0) == address.mappedBytes) }
    }

    @Test(arguments: [0, 1, 3, 5, 15, 17]) func `only 4 or 16 bytes are an address`(count: Int) {
        #expect(IPAddress(bytes: [UInt8](repeating: 1, count: count)) == nil)
    }

    @Test(arguments: [
        ("0.0.0.0", [true, false, false, false, false]),
        ("::", [true, false, false, false, false]),
        ("127.255.0.1", [false, true, false, false, false]),
        ("128.0.0.1", [false, false, false, false, false]),
        ("::1", [false, true, false, false, false]),
        ("::2", [false, false, false, false, false]),
        ("223.255.255.255", [false, false, false, false, false]),
        ("224.0.0.1", [false, false, true, false, false]),
        ("239.255.255.255", [false, false, true, false, false]),
        ("240.0.0.0", [false, false, false, false, false]),
        ("ff02::1", [false, false, true, false, false]),
        ("fe80::1", [false, false, false, true, false]),
        ("febf::1", [false, false, false, true, false]),
        ("fec0::1", [false, false, false, false, false]),
        ("169.254.1.1", [false, false, false, true, false]),
        ("255.255.255.255", [false, false, false, false, true]),
        ("7f00::", [false, false, false, false, false]),
    ])
    func `an address knows its kind`(text: String, kinds: [Bool]) throws {
        let address = try IPAddress(parsing: text)
        #expect(
            [
                address.isUnspecified, address.isLoopback, address.isMulticast, address.isLinkLocal,
                address.isLimitedBroadcast,
            ] == kinds)
    }

    @Test func `addresses sort by family and then by number`() throws {
        let sorted = try ["1.2.3.4", "9.0.0.0", "200.0.0.1", "::", "::1", "2001:db8::", "ff02::1"].map {
            try IPAddress(parsing: $0)
        }
        #expect(sorted.shuffled().sorted() == sorted)
    }
}
