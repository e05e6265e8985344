import BPF
import CDatapath
import FastNATTesting
import Glibc
import Testing

@testable import FastNAT

/// A datapath that is attached nowhere, for one test: packets go through its programs by test runs alone. When it goes,
/// all flows are ended, and an issue is recorded if anything of them is left.
final class TestDatapath: Sendable {
    let network: TestNetwork
    private let pooled: PooledDatapath

    /// What the CLI works with.
    var datapath: Datapath { _read { yield pooled.datapath } }
    /// The maps themselves.
    var maps: DatapathMaps { _read { yield pooled.datapath.maps } }

    /// A datapath with these mappings, by default `Family.standardMappings` of both families, and places for so many flows. A
    /// test that changes the network asks for one of its own. Where programs do not see the state of checksums, as before Linux
    /// 6.2, helpers of the kernel move them.
    init(
        _ mappings: [String] = Family.allCases.flatMap(\.standardMappings), network: TestNetwork? = nil,
        flows: Int = 1024, timeouts: Timeouts = Timeouts(), seesChecksumStates: Bool = true
    ) throws {
        self.network = try network ?? TestNetwork.shared.get()
        pooled = try PooledDatapath.take(
            FlowTableSize(flows: flows), timeouts, seesChecksumStates: seesChecksumStates)
        try add(mappings)
        for device in [self.network.uplink, self.network.container] { try setXDPOutput(device, true) }
    }

    deinit {
        do { try pooled.giveBack() } catch { Issue.record(error) }
    }

    /// Adds mappings by their texts.
    func add(_ mappings: [String]) throws {
        try datapath.addMappings(mappings.map { try PortMapping(parsing: $0) })
    }

    /// Whether a device takes frames from XDP.
    func setXDPOutput(_ device: TestNetwork.Device, _ isOutput: Bool) throws {
        try inNamespace {
            if isOutput {
                try maps.xdpOutputs.set(device.index, device.index)
            } else {
                try maps.xdpOutputs.remove(device.index)
            }
        }
    }

    /// Starts the timer that ends idle flows.
    func startSweep() throws { try pooled.startSweep() }

    /// Takes away what has been found out of addresses and interfaces.
    func forget() throws { try pooled.forgetNotes() }

    /// Runs `body` while TC passes new flows about which something is to be asked, as XDP does always.
    func withoutAdmission(at hook: Hook, _ body: () throws -> Void) throws {
        try without(STAGE_ADMIT, at: hook, body)
    }

    /// Runs `body` while TC passes packets of known flows for which the kernel's routes are to be asked, as XDP does always.
    func withoutRoutes(at hook: Hook, _ body: () throws -> Void) throws {
        try without(STAGE_ROUTE, at: hook, body)
    }

    private func without(_ stage: stage, at hook: Hook, _ body: () throws -> Void) throws {
        try without(hook == .xdp ? [] : [stage], body)
    }

    /// Runs `body` while what is to go on in one of these stages is passed.
    func without(_ stages: [stage], _ body: () throws -> Void) throws {
        for stage in stages { try pooled.setStage(stage, false) }
        let result = Result { try body() }
        for stage in stages { try pooled.setStage(stage, true) }
        try result.get()
    }

    /// Has every CPU believe that so many packets in a row have begun a flow, on both sides.
    func setStreaks(_ streak: UInt32) throws {
        try setClocks(PooledDatapath.Clock(streakOnUplinks: streak, streakOfContainers: streak))
    }

    /// What each CPU has noted of the last flow that began at once.
    func mappingNotes() throws -> [mapping_note] { try pooled.mappingNotes().values(0) }

    /// Has every CPU believe that it has noted this.
    func setMappingNotes(_ note: mapping_note) throws { try pooled.mappingNotes().setAll(0, note) }

    /// Gives every CPU this.
    func setClocks(_ clock: PooledDatapath.Clock) throws { try pooled.clocks().setAll(0, clock) }

    /// How many every CPU believes it was on this side.
    func streaks(_ side: Side) throws -> [UInt32] {
        try pooled.clocks().values(0).map(side == .uplink ? \.streakOnUplinks : \.streakOfContainers)
    }

    /// What CPUs know of the packets before.
    func clocks() throws -> [PooledDatapath.Clock] { try pooled.clocks().values(0) }

    /// Has every CPU find the way that has just been asked for, for packets that come in where those of a test run do.
    func spreadRoute(at hook: Hook, on side: Side) throws {
        let device = side == .uplink ? network.uplink.index : network.container.index
        try pooled.spreadRoute(interface: hook == .xdp ? 1 : device)
    }

    /// Has every CPU know what has been found out of containers' packets, and their ways, just now: a test may be held up for
    /// longer than that is good for. Each is changed like this.
    ///
    /// - Returns: of how many pairs of addresses there was anything.
    @discardableResult
    func spreadNotes(
        _ change: (inout masquerade_note) throws -> Void = { _ in },
        way: (inout route_note) throws -> Void = { _ in }
    ) throws -> Int {
        let noted = UInt32(truncatingIfNeeded: monotonicNow() >> 20) &- NextHopAge.fresh.rawValue
        try pooled.spreadRoutes(interface: network.container.index) {
            $0.noted = noted
            try way(&$0)
        }
        return try pooled.spreadMasquerades {
            $0.noted = noted
            try change(&$0)
        }
    }

    /// Where the datapath keeps them, behind those of mappings' targets (`hops` in bpf/nat/maps.h).
    private static let nextHops = Int(MAX_MAPPINGS.rawValue)..<Int(MAX_MAPPINGS.rawValue) + Int(MAX_NEXT_HOPS.rawValue)

    /// The next hops that flows share; not the addresses that packets arrive with, which stand among them.
    func nextHops() -> [shared_hop] {
        Self.nextHops.map { maps.hops[$0] }.filter { $0.next_hop.ifindex != 0 }
    }

    /// Puts this in the place of each of the next hops that flows share, and where there is none.
    func setNextHops(to replacement: shared_hop) {
        for place in Self.nextHops {
            let present = maps.hops[place]
            let isArrival = present.refreshed != 0 && present.next_hop.ifindex == 0
            if !isArrival { maps.hops[place] = replacement }
        }
    }

    /// What is still taken of the flow table.
    func leftovers() throws -> [String] { try pooled.leftovers() }

    /// Runs `body` on a thread inside the network namespace.
    func inNamespace<R>(_ body: () throws -> R) throws -> R {
        try network.namespace.run { () throws(TestingError) in Result { try body() } }.get()
    }

    /// Runs a frame through XDP whose first buffer holds so many bytes; nil where the kernel cannot do that (before
    /// Linux 6.18).
    func run(_ packet: [UInt8], firstBuffer: UInt32) throws -> TestRunResult? {
        try inNamespace {
            do throws(BPFError) {
                return try pooled.xdpProgram.testRun(packet, firstBuffer: firstBuffer)
            } catch {
                if error.code == EINVAL { return nil }
                throw error
            }
        }
    }

    /// Runs a packet that a device has summed through TC. false: the sum does not fit what has become of it; nil: the kernel
    /// cannot tell (before Linux 6.16).
    func sumFits(_ packet: [UInt8], on side: Side) throws -> Bool? {
        try inNamespace {
            do throws(BPFError) {
                if side == .uplink {
                    _ = try pooled.uplinkProgram.testRun(packet, interfaceIndex: network.uplink.index, summed: true)
                } else {
                    _ = try pooled.containerProgram.testRun(
                        packet, interfaceIndex: network.container.index, summed: true)
                }
                return true
            } catch {
                if error.code == EINVAL { return nil }
                if error.code == EBADMSG { return false }
                throw error
            }
        }
    }

    /// Runs packets through the program of a hook and side, one after another, each after a call of `before` with its
    /// number.
    func run(
        _ packets: [[UInt8]], at hook: Hook, on side: Side = .uplink, gsoSize: UInt32 = 0,
        before: (Int) -> Void = { _ in }
    ) throws -> [TestRunResult] {
        try inNamespace {
            try packets.enumerated().map { number, packet in
                before(number)
                return try runHere(packet, at: hook, on: side, gsoSize: gsoSize)
            }
        }
    }

    /// The same with one packet, on a thread that is in the network namespace already.
    func runHere(_ packet: [UInt8], at hook: Hook, on side: Side, gsoSize: UInt32 = 0) throws -> TestRunResult {
        switch (hook, side) {
        case (.xdp, _): try pooled.xdpProgram.testRun(packet)
        case (.tc, .uplink):
            try pooled.uplinkProgram.testRun(packet, interfaceIndex: network.uplink.index, gsoSize: gsoSize)
        case (.tc, .container):
            try pooled.containerProgram.testRun(packet, interfaceIndex: network.container.index, gsoSize: gsoSize)
        }
    }
}

/// Whether a cached next hop is to be asked for again.
enum NextHopAge: UInt32 {
    /// Not in the future of the datapath, whose clock is coarse.
    case fresh = 50
    /// Older than its lifetime of 900 units.
    case stale = 2_000
}

extension TestDatapath {
    /// Sets when the next hops of all flows were looked up last, each by its own flow.
    ///
    /// Fresh: so that a test that was held up for a second between TC and XDP still sees what it is about. Stale: so
    /// that it need not wait for that second.
    func setNextHops(_ age: NextHopAge) throws {
        if age == .stale { try pooled.forgetRoutes() }
        let now = UInt32(truncatingIfNeeded: monotonicNow() >> 20)
        for (slot, record) in try liveRecords() {
            var flow = record
            flow.original.refreshed = now &- age.rawValue
            flow.reply.refreshed = now &- age.rawValue
            try maps.setRecord(slot, flow)
            guard flow.flags & FLOW_SHARES_HOP.rawValue != 0 else { continue }
            maps.hops[Int(flow.original.mapping_id)].refreshed = now &- age.rawValue
        }
    }

    /// The records of all flows, by slot.
    func liveRecords() throws -> [(slot: UInt32, record: flow)] {
        try liveSlots().compactMap { slot in try maps.record(slot).map { (slot, $0) } }
            .filter { UInt32($0.1.state.phase) != FLOW_DEAD.rawValue }
    }

    /// The tuple of a direction of the flow in a slot.
    func tuple(_ slot: UInt32, _ direction: flow.Direction) throws -> tuple {
        let record = try #require(try maps.record(slot))
        return record.tuple(direction, next: try #require(try maps.record(slot | 1)))
    }

    /// The slots that are taken.
    func liveSlots() throws -> [UInt32] {
        let words = try MappedArray(maps.slots)
        return (0..<words.count).flatMap { word in
            (0..<64).filter { words[word] >> $0 & 1 == 1 }.map { UInt32(word * 64 + $0) }
        }
    }
}
