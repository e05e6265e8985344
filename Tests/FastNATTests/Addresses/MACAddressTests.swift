import Addresses
import Testing

@Suite struct MACAddressTests {
    @Test func `a MAC address parses to its bytes and prints in lower case`() throws {
        let mac = try MACAddress(parsing: "02:00:5E:10:00:fF")
        #expect(mac.bytes == [0x02, 0x00, 0x5e, 0x10, 0x00, 0xff])
        #expect(mac.description == "02:00:5e:10:00:ff")
        #expect(MACAddress(bytes: mac.bytes) == mac)
        #expect(MACAddress(octets: mac.octets) == mac)
        #expect(MACAddress(bytes: [1, 2, 3, 4, 5]) == nil)
    }

    @Test(arguments: [
        ("", "there are 1 of the six bytes"),
        ("02:00:5e:10:00", "there are 5 of the six bytes"),
        ("02:00:5e:10:00:01:02", "there are 7 of the six bytes"),
        ("2:00:5e:10:00:01", #""2" is not two hexadecimal digits"#),
        ("02:00:5e:10:00:0g", #""0g" is not two hexadecimal digits"#),
        ("02:00:5e:10:00:+1", #""+1" is not two hexadecimal digits"#),
        ("02:00:5e:10::01", #""" is not two hexadecimal digits"#),
        ("02-00-5e-10-00-01", "there are 1 of the six bytes"),
    ])
    func `a wrong MAC address is refused with its reason`(text: String, reason: String) {
        let error = #expect(throws: AddressError.self) { try MACAddress(parsing: text) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }

    @Test(arguments: [
        ("00:00:00:00:00:00", true, false), ("ff:ff:ff:ff:ff:ff", false, true), ("01:00:5e:00:00:01", false, true),
        ("02:00:00:00:00:00", false, false),
    ])
    func `a MAC address knows its kind`(text: String, isZero: Bool, isMulticast: Bool) throws {
        let mac = try MACAddress(parsing: text)
        #expect(mac.isZero == isZero)
        #expect(mac.isMulticast == isMulticast)
    }
}
