import FastNATTesting
import Testing

@testable import FastNAT

/// Fragments that have waited for their first come in again with it: the datapath hands them to the device, from where
/// they would come to its program. A test that has the program run by itself sees them there.
@Suite(.serialized) struct FragmentReleaseTests {
    let network: TestNetwork
    let datapath: TestDatapath

    init() throws {
        network = try TestNetwork()
        datapath = try TestDatapath(network: network)
    }

    /// Watches what comes in again on a device.
    private func watch(_ side: Side) throws -> Capture {
        try Capture(datapath.device(of: side).name, in: network.namespace, .received, filter: "ip or ip6 proto 44")
    }

    @Test(arguments: FragmentWay.all)
    func `a first fragment brings those that wait in behind it`(way: FragmentWay) throws {
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: way.side)
        let capture = try watch(way.side)
        for number in [2, 1] { try datapath.expectKept(packet, number) }
        try datapath.expectTaken(packet.fragments[0], on: way.side)
        let again = try capture.waitFor(count: 3)
        #expect(again == [0, 2, 1].map { packet.fragments[$0].bytes })
        for number in [0, 2, 1] { try datapath.expectForwarded(packet, number) }
        #expect(try capture.stop().count == 3, "nothing waits any longer")
    }

    @Test(arguments: Family.allCases)
    func `so does one that begins a flow`(family: Family) throws {
        let conversation = Conversation(family, .udp)
        let packet = FragmentedPacket(conversation)
        let capture = try watch(.uplink)
        for number in [1, 2] { try datapath.expectKept(packet, number) }
        try datapath.expectTaken(packet.fragments[0], on: .uplink)
        #expect(try capture.waitFor(count: 3) == packet.fragments.map(\.bytes))
        for number in packet.fragments.indices { try datapath.expectForwarded(packet, number) }
        #expect(try datapath.states() == [.unreplied])
    }

    @Test(arguments: FragmentWay.all)
    func `a datagram of 64 KiB in reverse order is whole again`(way: FragmentWay) throws {
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let payload = (0..<60_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        let packet = FragmentedPacket(conversation, from: way.side, payload: payload, of: 1_432)
        let other = FragmentedPacket(conversation, from: way.side, identification: 5)
        let capture = try watch(way.side)
        try datapath.expectKept(other, 1)
        for number in packet.fragments.indices.dropFirst().reversed() { try datapath.expectKept(packet, number) }
        try datapath.expectTaken(packet.fragments[0], on: way.side)
        let again = try capture.waitFor(count: packet.fragments.count)
        #expect(again == ([packet.fragments[0]] + packet.fragments.dropFirst().reversed()).map(\.bytes))
        for number in packet.fragments.indices { try datapath.expectForwarded(packet, number) }
    }

    @Test(arguments: Family.allCases)
    func `a container's fragments that are the stack's come in again, too`(family: Family) throws {
        let foreign = Conversation(family, .udp)
        let packet = FragmentedPacket(foreign, from: .container)
        let capture = try watch(.container)
        try datapath.expectKept(packet, 1)
        try datapath.expectTaken(packet.fragments[0], on: .container)
        #expect(try capture.waitFor(count: 2) == [0, 1].map { packet.fragments[$0].bytes })
        for fragment in packet.fragments { try datapath.expectPassed(fragment, on: .container) }
    }

    @Test(arguments: FragmentWay.all)
    func `fragments that have waited too long do not come in again`(way: FragmentWay) throws {
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: way.side)
        let lifetime: UInt64 = way.kind.family == .ipv4 ? 30 : 60
        let capture = try watch(way.side)
        try datapath.expectKept(packet, 1)
        try datapath.ageFragmentQueues(by: lifetime - 1)
        try datapath.expectKept(packet, 2)
        try datapath.ageFragmentQueues(by: 2)
        try datapath.expectForwarded(packet, 0)
        #expect(try capture.stop() == [])
    }

    @Test(arguments: FragmentWay.all)
    func `a slot that is used anew is not taken for the old one`(way: FragmentWay) throws {
        let conversation = Conversation(way.kind)
        try datapath.open(conversation)
        let packet = FragmentedPacket(conversation, from: way.side, identification: 0xffff)
        let capture = try watch(way.side)
        try datapath.expectKept(packet, 1)
        let orphans = (0..<1_024).map { number in
            packet.fragments[2].with {
                $0.ipv4?.identification = UInt16(number)
                $0.ipv6?.extensionHeaders = [.fragment(offset: 12, more: false, identification: UInt32(number))]
            }.bytes
        }
        _ = try datapath.run(orphans, at: .tc, on: way.side)
        let outcome = try datapath.outcome(of: packet.fragments[0].bytes, at: .tc, on: way.side)
        // It has waited in vain; the first goes alone, at once or by the device.
        #expect(outcome.counted == [:])
        #expect(try capture.stop().allSatisfy { $0 == packet.fragments[0].bytes })
    }
}
