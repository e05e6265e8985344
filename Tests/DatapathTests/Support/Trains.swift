import CDatapath
import FastNATTesting
import Testing

@testable import FastNAT

/// Where packets of a flow come in, one behind the other.
struct Line: Sendable, CustomTestStringConvertible {
    let hook: Hook
    let side: Side
    let transport: Transport

    var testDescription: String { "\(transport) at \(hook), \(side)" }

    static let all = Transport.allCases.flatMap { transport in
        Hook.allCases.flatMap { hook in
            [Side.uplink, .container].map { Line(hook: hook, side: $0, transport: transport) }
        }
    }

    /// A packet of the conversation that comes in here.
    func packet(_ conversation: Conversation, payload: [UInt8] = [UInt8](1...20)) -> Packet {
        side == .uplink ? conversation.request(payload: payload) : conversation.reply(payload: payload)
    }

    func frame(_ conversation: Conversation) -> [UInt8] { packet(conversation).bytes }
}

extension PooledDatapath.Clock {
    /// The train of packets that come in here.
    subscript(line: Line) -> PooledDatapath.Train {
        get { self[keyPath: Self.train(line)] }
        set { self[keyPath: Self.train(line)] = newValue }
    }

    private static func train(_ line: Line) -> WritableKeyPath<Self, PooledDatapath.Train> {
        switch (line.hook, line.side) {
        case (.xdp, _): \.xdpTrain
        case (.tc, .uplink): \.uplinkTrain
        case (.tc, .container): \.containerTrain
        }
    }
}

/// Trains of packets (`bpf/pipeline/train.h`).
extension TestDatapath {
    /// What the CPU knows that this frame has come to, when another one like it was the last on every CPU, or nil.
    func clock(behind first: PooledDatapath.Clock, _ frame: [UInt8], _ line: Line) throws -> PooledDatapath.Clock? {
        try setNextHops(.fresh)
        try setClocks(first)
        _ = try outcome(of: frame, at: line.hook, on: line.side, refreshing: false)
        return try clocks().first { $0[line] != first[line] }
    }

    /// What a CPU knows behind two packets of a flow, and forgets with no tick.
    func train(behindTwoOf frame: [UInt8], _ line: Line) throws -> PooledDatapath.Clock {
        let one = try #require(try clock(behind: .init(), frame, line))
        var two = try #require(try clock(behind: one, frame, line))
        two[line].until = .max
        return two
    }

    /// Sends a frame that comes to a CPU behind this train, of whose flow nothing has changed but the time.
    func outcome(of frame: [UInt8], behind train: PooledDatapath.Clock, _ line: Line, gsoSize: UInt32 = 0) throws
        -> Outcome
    {
        try setClocks(refreshed(train, line))
        return try outcome(of: frame, at: line.hook, on: line.side, gsoSize: gsoSize, refreshing: false)
    }

    /// The train as if nothing had been refreshed since.
    func refreshed(_ train: PooledDatapath.Clock, _ line: Line) throws -> PooledDatapath.Clock {
        var clock = train
        let flow = try #require(try maps.record(UInt32(train[line].entry & 0xff_ffff)))
        let isReply = train[line].entry >> 30 & 1 == 1
        clock[line].refreshed = isReply ? flow.reply.refreshed : flow.original.refreshed
        return clock
    }

    /// Whether a frame gets what the train's packets get: which is to be seen where they get other ports than their flow's.
    func goesWithTrain(_ frame: [UInt8], _ train: PooledDatapath.Clock, _ line: Line, gsoSize: UInt32 = 0) throws
        -> Bool
    {
        let outcome = try outcome(of: frame, behind: train.marked(line), line, gsoSize: gsoSize)
        return outcome.verdict == .redirected && outcome.isMarked
    }
}

private let markedPorts: [UInt8] = [0xab, 0xcd, 0xef, 0x01]

extension PooledDatapath.Clock {
    /// The train, whose packets get ports that are nobody's.
    func marked(_ line: Line) -> Self {
        var clock = self
        clock[line].newPorts = markedPorts.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
        return clock
    }
}

extension Outcome {
    /// Whether the packet has such ports.
    var isMarked: Bool { packet.count >= 38 && Array(packet[34..<38]) == markedPorts }
}
