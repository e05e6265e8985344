import BPF
import CDatapath
import Glibc
import Synchronization
import Testing

@testable import FastNAT

/// A datapath in the kernel that tests use one after another: the verifier takes about a second for one.
///
/// Unchecked: the descriptors never change, and the kernel orders what is done through them.
final class PooledDatapath: @unchecked Sendable {
    let datapath: Datapath
    let uplinkProgram: Descriptor
    let containerProgram: Descriptor
    let xdpProgram: Descriptor
    /// Of the maps; not changed by `prepare`.
    let size: FlowTableSize
    private let seed: UInt64
    /// The maps that only the programs use live as long as this.
    private let object: LoadedObject

    /// Whether its programs see the state of checksums; otherwise the kernel's helpers move them.
    private let seesChecksumStates: Bool

    private static let free = Mutex<[PooledDatapath]>([])

    private init(_ size: FlowTableSize, seesChecksumStates: Bool) throws {
        let seed = UInt64.random(in: 1...UInt64.max)
        let object = try DatapathImage.loadFresh(size, seed: seed, seesChecksumStates: seesChecksumStates)
        let maps = try DatapathMaps { name throws(BPFError) in try object.map(name) }
        datapath = Datapath(maps: maps, flushProgram: try object.program(DatapathProgram.flush.rawValue))
        uplinkProgram = try object.program(DatapathProgram.uplink.rawValue)
        containerProgram = try object.program(DatapathProgram.container.rawValue)
        xdpProgram = try object.program(DatapathProgram.xdp.rawValue)
        self.object = object
        self.size = size
        self.seed = seed
        self.seesChecksumStates = seesChecksumStates
    }

    /// One that nobody uses: without mappings and flows, all counters at zero, settings as the loader makes them.
    static func take(_ size: FlowTableSize, _ timeouts: Timeouts, seesChecksumStates: Bool) throws -> PooledDatapath {
        let found = free.withLock { free in
            free.lastIndex { $0.seesChecksumStates == seesChecksumStates && $0.size.slots == size.slots }
                .map { free.remove(at: $0) }
        }
        let pooled = try found ?? PooledDatapath(size, seesChecksumStates: seesChecksumStates)
        try pooled.datapath.maps.settings.set(0, settings(pooled.size, seed: pooled.seed, timeouts))
        return pooled
    }

    /// Takes mappings and flows away, and looks whether anything is left of them. Then another test may use it.
    func giveBack() throws {
        try datapath.removeAllMappings()
        try datapath.removeMasquerades { _ in true }
        _ = try datapath.flushFlows()
        for key in try datapath.maps.xdpOutputs.keys() { try datapath.maps.xdpOutputs.remove(key) }
        try forgetNotes()
        for key in try datapath.maps.fragmentNotes.keys() { try datapath.maps.fragmentNotes.remove(key) }
        for key in try datapath.maps.fragmentQueues.keys() { try datapath.maps.fragmentQueues.remove(key) }
        for reason in 0..<REASON_COUNT.rawValue { try datapath.maps.reasonCounters.setAll(reason, 0) }
        try PerCPUMap<UInt64>(object.map("report_limits"), name: "report_limits").setAll(0, 0)
        try forgetRecords()
        let leftovers = try leftovers()
        if !leftovers.isEmpty { Issue.record("left over: \(leftovers)") }
        if leftovers.isEmpty { Self.free.withLock { $0.append(self) } }
    }

    /// Has no slot stay free of addresses because it was a record of late.
    private func forgetRecords() throws {
        let pairs = try MappedArray(datapath.maps.flows)
        for pair in 0..<pairs.count where pairs[pair].record(1).state.generation != 0 {
            try datapath.maps.setRecord(UInt32(pair * 2 + 1), flow())
        }
    }

    /// Takes away what has been found out of addresses and interfaces.
    func forgetNotes() throws {
        for index in 0..<HOST_ADDRESSES.rawValue { try datapath.maps.hostAddresses.setAll(index, address_note()) }
        for index in 0..<CLIENT_ADDRESSES.rawValue {
            try datapath.maps.clientAddresses.setAll(index, address_note())
        }
        try forgetRoutes()
        try forgetMasquerades()
        for index in 0..<ARRIVALS.rawValue { try datapath.maps.arrivals.setAll(index, arrival()) }
        try mappingNotes().setAll(0, mapping_note())
        try clocks().setAll(0, Clock())
    }

    /// What each CPU has noted of the last flow that began at once.
    func mappingNotes() throws -> PerCPUMap<mapping_note> {
        try PerCPUMap(object.map("mapping_notes"), name: "mapping_notes")
    }

    /// Takes away what one flow has been told and others go by.
    func forgetRoutes() throws {
        let routes = try routeNotes()
        for index in 0..<ROUTE_NOTES.rawValue { try routes.setAll(index, route_note()) }
    }

    /// Takes away what was found out of packets that are masqueraded.
    func forgetMasquerades() throws {
        let notes = try masqueradeNotes()
        for index in 0..<MASQUERADE_NOTES.rawValue { try notes.setAll(index, masquerade_note()) }
    }

    /// Has every CPU find the way that one of them has noted last, for packets of this interface, whatever it looks for.
    func spreadRoute(interface: UInt32) throws {
        let routes = try routeNotes()
        let notes = try (0..<ROUTE_NOTES.rawValue).flatMap { try routes.values($0) }
        var note = try #require(notes.max { $0.noted < $1.noted })
        note.ifindex = interface
        for index in 0..<ROUTE_NOTES.rawValue { try routes.setAll(index, note) }
    }

    /// Has every CPU know the ways that one of them has noted last for packets of this interface, each changed like this.
    func spreadRoutes(interface: UInt32, _ change: (inout route_note) throws -> Void) throws {
        let routes = try routeNotes()
        for index in 0..<ROUTE_NOTES.rawValue {
            let notes = try routes.values(index).filter { $0.ifindex == interface }
            guard var note = notes.max(by: { $0.noted < $1.noted }) else { continue }
            try change(&note)
            try routes.setAll(index, note)
        }
    }

    /// Has every CPU know what one of them has noted last of packets that are masqueraded, each changed like this.
    ///
    /// - Returns: of how many pairs of addresses there was anything.
    func spreadMasquerades(_ change: (inout masquerade_note) throws -> Void) throws -> Int {
        let masquerades = try masqueradeNotes()
        return try (0..<MASQUERADE_NOTES.rawValue).count { index in
            let notes = try masquerades.values(index).filter { $0.ifindex != 0 }
            guard var note = notes.max(by: { $0.noted < $1.noted }) else { return false }
            try change(&note)
            try masquerades.setAll(index, note)
            return true
        }
    }

    private func routeNotes() throws -> PerCPUMap<route_note> {
        try PerCPUMap(object.map("route_notes"), name: "route_notes")
    }

    private func masqueradeNotes() throws -> PerCPUMap<masquerade_note> {
        try PerCPUMap(object.map("masquerade_notes"), name: "masquerade_notes")
    }

    /// Whether there is the program of a stage: without, what is to go on there is passed.
    func setStage(_ stage: stage, _ isThere: Bool) throws {
        let name = String(cString: fastnat_stage_program(stage.rawValue))
        try setStage(stage, in: "stages", to: isThere ? name : nil)
        if stage == STAGE_KNOWN {
            try setStage(stage, in: "xdp_stages", to: isThere ? DatapathProgram.xdp.rawValue : nil)
        }
    }

    private func setStage(_ stage: stage, in map: String, to name: String?) throws {
        let stages = try Map<UInt32, UInt32>(object.map(map), name: map)
        if let name {
            let program = try object.program(name)
            try stages.set(stage.rawValue, UInt32(program.number))
        } else {
            try stages.remove(stage.rawValue)
        }
    }

    /// What every CPU has of the last tick, and of the packets before (bpf/nat/clock.h).
    func clocks() throws -> PerCPUMap<Clock> { try PerCPUMap(object.map("clocks"), name: "clocks") }

    /// `struct clock`.
    struct Clock: BitwiseCopyable {
        var tick: UInt64 = 0
        var now: UInt64 = 0
        var streakOnUplinks: UInt32 = 0
        var streakOfContainers: UInt32 = 0
        /// At TC, by side.
        var uplinkTrain = Train()
        var containerTrain = Train()
        var xdpTrain = Train()
        var portTrain = Train()
    }

    /// `struct train`, which says what these are.
    struct Train: BitwiseCopyable, Equatable {
        var last: UInt64 = 0
        var until: UInt64 = 0
        var addresses: UInt64 = 0
        var ports: UInt32 = 0
        var protocolNumber: UInt32 = 0
        var arrival: UInt64 = 0
        var pseudoSum: UInt64 = 0
        var entry: UInt64 = 0
        var bucket: UInt32 = 0
        var place: UInt32 = 0
        var state: UInt64 = 0
        var refreshed: UInt32 = 0
        var hop: UInt32 = 0
        var interface: UInt32 = 0
        var sequence: UInt32 = 0
        var addressesOfHop: UInt64 = 0
        var restOfAddresses: UInt32 = 0
        var mtu: UInt32 = 0
        var newAddresses: UInt64 = 0
        var newPorts: UInt32 = 0
        var networkDelta: UInt32 = 0
        var transportDelta: UInt32 = 0
        var flags: UInt32 = 0
    }

    /// What is still taken, though no flow lives: nothing, unless something leaks.
    func leftovers() throws -> [String] {
        var found: [String] = []
        let count = try datapath.flowCount()
        if count.flows != 0 || count.halfOpen != 0 { found.append("gauges: \(count)") }
        let slots = try MappedArray(datapath.maps.slots)
        let index = try MappedArray(datapath.maps.index)
        for word in 0..<slots.count where slots[word] != 0 { found.append("slots \(word): \(slots[word])") }
        for bucket in 0..<index.count where withUnsafeBytes(of: index[bucket], { $0.contains { $0 != 0 } }) {
            found.append("bucket \(bucket): \(index[bucket].entries)")
        }
        let counts = try MappedArray(datapath.maps.limitCounts)
        for id in 0..<counts.count where counts[id] != 0 { found.append("limit count \(id): \(counts[id])") }
        let sources = try MappedArray(datapath.maps.sourceCounts)
        for bucket in 0..<sources.count where withUnsafeBytes(of: sources[bucket], { $0.contains { $0 != 0 } }) {
            found.append("source counts \(bucket): \(sources[bucket].entries)")
        }
        return found
    }

    /// Starts the timer that ends idle flows, as the loader does.
    func startSweep() throws {
        let program = try object.program(DatapathProgram.armSweep.rawValue)
        let result = try program.testRun([UInt8](repeating: 0, count: 64))
        #expect(result.action == 0)
    }
}
