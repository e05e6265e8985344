import Addresses
import BPF
import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// What was found out less than a second ago of packets that come in; nil: of the device that test runs come from.
struct ArrivalNote {
    /// Of the host.
    var address: Packet.Address?
    var interface: UInt32?
    /// Units of 2^20 ns.
    var age: UInt32 = 50
    var mac: Packet.MAC = "02:00:00:00:01:01"
    var addressAge: UInt32 = 50
    var addressInterface: UInt32?
}

extension TestDatapath {
    /// Has every CPU know this and nothing else, just now, with the ways to targets: a test may be held up for longer than that
    /// is good for.
    func noteAlone(_ note: ArrivalNote, at hook: Hook) throws {
        try setNextHops(.fresh)
        let device = hook == .xdp ? 1 : network.uplink.index
        try forget()
        try self.note(note.interface ?? device, note.mac, age: note.age)
        if let address = note.address {
            try self.note(address, note.addressInterface ?? device, age: note.addressAge)
        }
    }

    /// Has every CPU know all that is asked about new flows to a family's published ports.
    func noteArrivals(_ family: Family, at hook: Hook) throws {
        try noteAlone(ArrivalNote(address: family.host), at: hook)
    }

    /// What frames for the host are sent to.
    private func note(_ interface: UInt32, _ mac: Packet.MAC, age: UInt32) throws {
        var note = arrival(ifindex: interface, noted: noted(age), mac: (0, 0, 0, 0, 0, 0), zero: 0)
        withUnsafeMutableBytes(of: &note.mac) { $0.copyBytes(from: mac.bytes) }
        try maps.arrivals.setAll(interface % ARRIVALS.rawValue, note)
    }

    /// An address of the host.
    private func note(_ address: Packet.Address, _ interface: UInt32, age: UInt32) throws {
        let note = address_note(
            address: CDatapath.address(try IPAddress(parsing: "\(address)")), ifindex: interface, noted: noted(age))
        for index in 0..<HOST_ADDRESSES.rawValue { try maps.hostAddresses.setAll(index, note) }
    }

    private func noted(_ age: UInt32) -> UInt32 { UInt32(truncatingIfNeeded: monotonicNow() >> 20) &- age }
}
