import Addresses
import Testing

@Suite struct IPPrefixTests {
    @Test(arguments: [
        ("10.0.0.0/8", "10.0.0.0/8", 104),
        ("0.0.0.0/0", "0.0.0.0/0", 96),
        ("192.0.2.1/32", "192.0.2.1/32", 128),
        ("192.0.2.1", "192.0.2.1/32", 128),
        ("::/0", "::/0", 0),
        ("2001:DB8::/32", "2001:db8::/32", 32),
        ("2001:db8::1", "2001:db8::1/128", 128),
    ])
    func `a network parses and prints back`(text: String, canonical: String, mappedLength: Int) throws {
        let prefix = try IPPrefix(parsing: text)
        #expect(prefix.description == canonical)
        #expect(try IPPrefix(parsing: canonical) == prefix)
        #expect(prefix.mappedLength == mappedLength)
    }

    @Test(arguments: [
        ("10.1.2.3/8", "expected the network 10.0.0.0/8 or the host 10.1.2.3/32"),
        ("1.0.0.0/0", "expected the network 0.0.0.0/0"),
        ("2001:db8::1/64", "expected the network 2001:db8::/64 or the host 2001:db8::1/128"),
        ("10.0.0.0/33", "an IPv4 prefix length of 33 is impossible; expected a length from 0 to 32"),
        ("::/129", "an IPv6 prefix length of 129 is impossible; expected a length from 0 to 128"),
        ("10.0.0.0/99999999999999", "too large"),
        ("10.0.0.0/", "the prefix length is missing"),
        ("10.0.0.0/08", "a leading zero"),
        ("10.0.0.0/255.0.0.0", "not a decimal number"),
        ("10.0.0.0/-8", "not a decimal number"),
        ("10.0.0.0/8/8", "not a decimal number"),
        ("10.0.0/8", "only 3 of the four"),
        ("/8", "there is no address"),
        ("", "there is no address"),
    ])
    func `a wrong network is refused with its reason`(text: String, reason: String) {
        let error = #expect(throws: AddressError.self) { try IPPrefix(parsing: text) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }

    @Test(arguments: [
        ("10.0.0.0/8", "10.255.255.255", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.0.0.0/8", "9.255.255.255", false),
        ("0.0.0.0/0", "255.255.255.255", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "192.0.2.1", false),
        ("::/0", "ff::1", true),
        ("2001:db8::/33", "2001:db8:7fff::1", true),
        ("2001:db8::/33", "2001:db8:8000::", false),
        ("192.0.2.1/32", "192.0.2.1", true),
        ("192.0.2.1/32", "192.0.2.0", false),
    ])
    func `a network contains its addresses only`(network: String, address: String, isMember: Bool) throws {
        let prefix = try IPPrefix(parsing: network)
        #expect(try prefix.contains(IPAddress(parsing: address)) == isMember)
        #expect(try prefix.contains(IPPrefix(parsing: address)) == isMember)
    }

    @Test func `a network does not contain a wider one`() throws {
        let narrow = try IPPrefix(parsing: "10.0.0.0/9")
        let wide = try IPPrefix(parsing: "10.0.0.0/8")
        #expect(wide.contains(narrow))
        #expect(!narrow.contains(wide))
        #expect(wide < narrow)
    }

    @Test(arguments: ["10.1.2.3", "0.0.0.0", "2001:db8::77"])
    func `a network and its complement are everything, and nothing is in both`(text: String) throws {
        let address = try IPAddress(parsing: text)
        for length in 0...address.family.bitWidth {
            let network = try IPPrefix(around: address, length: length)
            #expect(network.length == length && network.contains(address))
            let rest = network.complement
            #expect(rest.map(\.length) == (0..<length).map { $0 + 1 })
            let all = rest + [network]
            for (index, one) in all.enumerated() {
                #expect(!all[(index + 1)...].contains { $0.contains(one) || one.contains($0) })
            }
        }
        #expect(throws: AddressError.self) { try IPPrefix(around: address, length: address.family.bitWidth + 1) }
        #expect(throws: AddressError.self) { try IPPrefix(around: address, length: -1) }
    }
}
