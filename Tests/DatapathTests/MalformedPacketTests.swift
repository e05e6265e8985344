import FastNATTesting
import Testing

@testable import FastNAT

/// Frames that are not what they say: each belongs to an open flow but for its damage, and goes up the stack as it
/// came.
@Suite struct MalformedPacketTests {
    @Test(arguments: TransportWay.all)
    func `a frame cut off anywhere is left to the stack`(way: TransportWay) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(way)
        try datapath.open(conversation)
        let frame = conversation.request(payload: [1, 2, 3, 4, 5]).bytes
        for length in way.hook.shortest(way.family)..<frame.count {
            try datapath.expectPassed(Array(frame.prefix(length)), at: way.hook, counting: "malformed")
        }
        try datapath.expectForwarded(conversation, conversation.request(payload: [1, 2, 3, 4, 5]), at: way.hook)
    }

    @Test(arguments: Hook.allCases)
    func `a frame with the longest headers cut off anywhere is left to the stack`(hook: Hook) throws {
        let datapath = try TestDatapath()
        let conversation = Conversation(.ipv4, .tcp)
        try datapath.open(conversation)
        let frame = conversation.request(options: [UInt8](repeating: 1, count: 40)).with {
            $0.ipv4?.options = [UInt8](repeating: 1, count: 40)
        }.bytes
        for length in hook.shortest(.ipv4)..<frame.count {
            try datapath.expectPassed(Array(frame.prefix(length)), at: hook, counting: "malformed")
        }
    }

    /// What is wrong with a frame.
    struct Damage: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let families: [Family]
        let transport: Transport
        let apply: @Sendable (inout [UInt8], _ transport: Int) -> Void

        init(
            _ description: String, _ families: [Family] = Family.allCases, _ transport: Transport = .tcp,
            _ apply: @escaping @Sendable (inout [UInt8], _ transport: Int) -> Void
        ) {
            self.testDescription = description
            self.families = families
            self.transport = transport
            self.apply = apply
        }
    }

    static let damages: [Damage] =
        (0...15).filter { $0 != 4 }.map { version in
            Damage("IPv4 type, version \(version)", [.ipv4]) { frame, _ in frame[14] = UInt8(version << 4) | 5 }
        }
        + (0...15).filter { $0 != 6 }.map { version in
            Damage("IPv6 type, version \(version)", [.ipv6]) { frame, _ in frame[14] = UInt8(version << 4) }
        }
        + (0...4).map { words in
            Damage("IPv4 header of \(words) words", [.ipv4]) { frame, _ in frame[14] = 0x40 | UInt8(words) }
        }
        + [0, 1, 19, 20, 39].map { length in
            Damage("IPv4 total length \(length)", [.ipv4]) { frame, _ in (frame[16], frame[17]) = (0, UInt8(length)) }
        }
        + [20 + 21, 255 << 8, 0xffff].map { length in
            Damage("IPv4 total length \(length)", [.ipv4]) { frame, _ in
                (frame[16], frame[17]) = (UInt8(length >> 8), UInt8(length & 0xff))
            }
        }
        + [0, 1, 19, 21, 0xffff].map { length in
            Damage("IPv6 payload length \(length)", [.ipv6]) { frame, _ in
                (frame[18], frame[19]) = (UInt8(length >> 8), UInt8(length & 0xff))
            }
        }
        + [0, 1, 4, 6, 15].map { words in
            Damage("TCP header of \(words) words") { frame, transport in frame[transport + 12] = UInt8(words << 4) }
        }
        + [0, 1, 7, 9, 0xffff].map { length in
            Damage("UDP length \(length)", Family.allCases, .udp) { frame, transport in
                (frame[transport + 4], frame[transport + 5]) = (UInt8(length >> 8), UInt8(length & 0xff))
            }
        }
        + [20, 24, 27].map { length in
            Damage("IPv4 total length \(length) for UDP", [.ipv4], .udp) { frame, _ in
                (frame[16], frame[17]) = (0, UInt8(length))
            }
        }

    @Test(arguments: Hook.allCases, damages)
    func `a header that contradicts itself or the frame is left to the stack`(hook: Hook, damage: Damage) throws {
        for family in damage.families {
            let datapath = try TestDatapath()
            let conversation = Conversation(family, damage.transport)
            try datapath.open(conversation)
            var frame = conversation.request().bytes
            damage.apply(&frame, 14 + family.headerLength)
            try datapath.expectPassed(frame, at: hook, counting: "malformed")
        }
    }

    @Test(arguments: Way.all)
    func `random bytes never reach the target`(way: Way) throws {
        var random = Generator(seed: 11)
        let datapath = try TestDatapath()
        let frame = Conversation(way, .udp).request().bytes
        for _ in 0..<200 {
            let length = Int.random(in: way.hook.shortest(way.family)...200, using: &random)
            var noise = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
            noise.replaceSubrange(0..<14, with: frame.prefix(14))
            let outcome = try datapath.outcome(of: noise, at: way.hook)
            #expect(outcome.verdict == .passed && outcome.packet == noise)
        }
    }
}

extension Hook {
    /// The shortest frame of a family that a test run takes: at TC the kernel refuses one that has no whole IP header.
    fileprivate func shortest(_ family: Family) -> Int { self == .xdp ? 14 : 14 + family.headerLength }
}
