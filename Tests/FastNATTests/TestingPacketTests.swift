import FastNATTesting
import Testing

private let hello = Array("hello".utf8)
private let v4Client: Packet.Endpoint = "192.0.2.2:40000"
private let v4Server: Packet.Endpoint = "192.0.2.1:8080"
private let v6Client: Packet.Endpoint = "[2001:db8::2]:40000"
private let v6Server: Packet.Endpoint = "[2001:db8::1]:8080"

/// A packet and its bytes, which were computed by a separate program (Python's struct module).
private struct KnownVector: CustomTestStringConvertible {
    let testDescription: String
    let packet: Packet
    let bytes: String
}

private let knownVectors = [
    KnownVector(
        testDescription: "IPv4 UDP",
        packet: .udp(from: v4Client, to: v4Server, payload: hello).with {
            $0.ttl = 63
            $0.dscp = 46
            $0.ecn = 1
            $0.ipv4?.identification = 0x1234
        },
        bytes: "020000000001020000000002080045b90021123440003f11a4dbc0000202c00002019c401f90000d"
            + "7c2d68656c6c6f"),
    KnownVector(
        testDescription: "IPv6 UDP",
        packet: .udp(from: v6Client, to: v6Server, payload: hello).with {
            $0.ttl = 7
            $0.trafficClass = 0x2e
            $0.ipv6?.flowLabel = 0xbeef5
        },
        bytes: "02000000000102000000000286dd62ebeef5000d110720010db80000000000000000000000022001"
            + "0db80000000000000000000000019c401f90000da4bc68656c6c6f"),
    KnownVector(
        testDescription: "IPv4 TCP with options and a VLAN tag",
        packet: .tcp(
            from: v4Client, to: "192.0.2.1:80", [.syn, .ack], sequence: 0xdead_beef, acknowledgement: 1,
            options: Packet.TCP.maximumSegmentSize(1460), payload: Array("abc".utf8)
        ).with {
            $0.ethernet?.vlan = 100
            $0.ipv4?.options = [0x94, 4]
            $0.tcp?.window = 512
        },
        bytes: "0200000000010200000000028100006408004600003300004000400621bdc0000202c00002019404"
            + "00009c400050deadbeef0000000160120200137e0000020405b4616263"),
    KnownVector(
        testDescription: "IPv6 TCP",
        packet: .tcp(from: v6Client, to: "[2001:db8::1]:80", .syn),
        bytes: "02000000000102000000000286dd600000000014064020010db80000000000000000000000022001"
            + "0db80000000000000000000000019c400050000003e8000000005002ffffb3f50000"),
    KnownVector(
        testDescription: "IPv4 SCTP",
        packet: .sctp(from: v4Client, to: v4Server, .data, tag: 0xdead_beef, payload: hello),
        bytes: "02000000000102000000000208004500002c000040004084b64ac0000202c00002019c401f90dead"
            + "beefbcfe520c0000000968656c6c6f000000"),
    KnownVector(
        testDescription: "ICMPv4 echo",
        packet: .echoRequest(
            from: "192.0.2.2", to: "192.0.2.1", identifier: 0x4242, sequence: 7, payload: Array("xxx".utf8)),
        bytes: "02000000000102000000000208004500001f000040004001b6dac0000202c00002010800c53d4242"
            + "0007787878"),
    KnownVector(
        testDescription: "ICMPv4 error",
        packet: .icmpError(
            from: "192.0.2.2", to: "192.0.2.1", .tooBig(mtu: 1400),
            about: .udp(from: v4Server, to: v4Client, payload: hello)),
        bytes: "02000000000102000000000208004500003d000040004001b6bcc0000202c000020103047ba60000"
            + "057845000021000040004011b6c8c0000201c00002021f909c40000d7c2d68656c6c6f"),
    KnownVector(
        testDescription: "ICMPv6 error",
        packet: .icmpError(
            from: "2001:db8::2", to: "2001:db8::1", .tooBig(mtu: 1400),
            about: .udp(from: v6Server, to: v6Client, payload: hello)),
        bytes: "02000000000102000000000286dd60000000003d3a4020010db80000000000000000000000022001"
            + "0db800000000000000000000000102002b6c0000057860000000000d114020010db8000000000000"
            + "00000000000120010db80000000000000000000000021f909c40000da4bc68656c6c6f"),
    KnownVector(
        testDescription: "IPv6 destination options",
        packet: .udp(from: v6Client, to: v6Server, payload: hello).with {
            $0.ipv6?.extensionHeaders = [.destinationOptions()]
        },
        bytes: "02000000000102000000000286dd6000000000153c4020010db80000000000000000000000022001"
            + "0db800000000000000000000000111000104000000009c401f90000da4bc68656c6c6f"),
    KnownVector(
        testDescription: "ARP request",
        packet: .arpRequest(from: "192.0.2.2", "02:00:00:00:00:02", target: "192.0.2.1"),
        bytes: "ffffffffffff02000000000208060001080006040001020000000002c0000202000000000000c000"
            + "0201"),
]

@Suite("Packets")
struct TestingPacketTests {
    @Test("Bytes are those of an independent program", arguments: knownVectors)
    private func knownVector(_ vector: KnownVector) {
        expectEqualPackets(vector.packet, bytes(vector.bytes))
        #expect(checksumsAreValid(vector.packet.bytes))
        #expect(PacketView(vector.packet.bytes).problems.isEmpty)
    }

    @Test("A UDP checksum that comes to 0 is written as 0xffff")
    func udpChecksumOfZero() {
        let packet = Packet.udp(from: v4Client, to: v4Server, payload: [0xc0, 0x05])
        #expect(PacketView(packet.bytes)["udp.checksum"] == "0xffff")
        #expect(checksumsAreValid(packet.bytes))
    }

    @Test("A UDP checksum of 0 is right in IPv4 and wrong in IPv6")
    func udpWithoutChecksum() {
        let v4 = Packet.udp(from: v4Client, to: v4Server).with { $0.transportChecksum = .zero }
        let v6 = Packet.udp(from: v6Client, to: v6Server).with { $0.transportChecksum = .zero }
        #expect(checksumsAreValid(v4.bytes))
        #expect(PacketView(v6.bytes).problems == ["udp.checksum is wrong"])
    }

    @Test("A partial checksum is the pseudo-header's sum", arguments: [(v4Client, v4Server), (v6Client, v6Server)])
    func partialChecksum(_ client: Packet.Endpoint, _ server: Packet.Endpoint) throws {
        let packet = Packet.tcp(from: client, to: server, payload: hello).with { $0.transportChecksum = .partial }
        let sum = server.address.isIPv6 ? 0x5b94 : 0x8423
        #expect(PacketView(packet.bytes)["tcp.checksum"] == "0x" + String(sum, radix: 16))
        #expect(!checksumsAreValid(packet.bytes))
    }

    @Test("Deliberate damage is done, and seen")
    func damage() {
        let packet = Packet.udp(from: v4Client, to: v4Server, payload: hello)
        func problems(_ change: (inout Packet) -> Void) -> [String] { PacketView(packet.with(change).bytes).problems }
        #expect(problems { $0.ipv4?.checksum = .offBy(1) } == ["ip.checksum is wrong"])
        #expect(problems { $0.transportChecksum = .offBy(1) } == ["udp.checksum is wrong"])
        #expect(problems { $0.ipv4?.totalLengthDelta = 100 } == ["ip: length beyond the frame's end"])
        #expect(problems { $0.udp?.lengthDelta = -1 }.first == "udp.length is wrong")
        #expect(problems { $0.truncation = 30 }.first == "ip: truncated")
        #expect(packet.with { $0.truncation = 30 }.bytes == Array(packet.bytes.prefix(30)))
    }

    @Test("A difference is named by its field")
    func differences() {
        let packet = Packet.tcp(from: v4Client, to: v4Server, .syn)
        let other = packet.with {
            $0.ttl = 63
            $0.ethernet?.destination = .broadcast
        }
        #expect(diff(packet, packet.bytes).isEmpty)
        #expect(diff(packet, other.bytes).map { $0.prefix { $0 != ":" } } == ["eth.dst", "ip.ttl", "ip.checksum"])
        #expect(diff(packet, other.bytes)[1] == "ip.ttl: expected 64, got 63")
        #expect(diff(packet, packet.bytes + [0]) == ["trailer: unexpected 00"])
        #expect(diff([1], [2]).count == 4, "undecodable bytes are dumped")
        withKnownIssue { expectEqualPackets(packet, other.bytes) }
    }

    @Test("What an ICMP error quotes is compared as well")
    func embeddedDifferences() {
        func error(about source: Packet.Endpoint) -> Packet {
            .icmpError(from: "192.0.2.1", to: "192.0.2.2", .portUnreachable, about: .udp(from: source, to: v4Server))
        }
        let names = diff(error(about: v4Client), error(about: "192.0.2.9:40001").bytes).map { $0.prefix { $0 != ":" } }
        #expect(
            names == ["icmp.checksum", "inner.ip.checksum", "inner.ip.src", "inner.udp.sport", "inner.udp.checksum"])
    }

    @Test("Fragments carry the whole between them", arguments: [(v4Client, v4Server), (v6Client, v6Server)])
    func fragments(_ client: Packet.Endpoint, _ server: Packet.Endpoint) {
        let whole = Packet.udp(from: client, to: server, payload: (0..<100).map { UInt8($0) })
        let views = whole.fragments(of: 50, identification: 77).map { PacketView($0.bytes) }
        #expect(views.map(\.problems) == [[], [], []])
        #expect(views[0].destination == server)
        #expect(views.flatMap(\.payload) == whole.payload)
        if !client.address.isIPv6 {
            #expect(views.map { $0["ip.offset"] } == ["0", "6", "12"])
            #expect(views.map { $0["ip.flags"] } == ["MF", "MF", ""])
        } else {
            #expect(views.map { $0["ext0.body"] } == ["0000010000004d", "0000310000004d", "0000600000004d"])
        }
    }

    @Test("Addresses print what they parse")
    func text() throws {
        for text in ["192.0.2.1:80", "[2001:db8::1]:65535"] { #expect(try Packet.Endpoint(text).description == text) }
        for text in ["192.0.2.1", "192.0.2.1:65536", "2001:db8::1:80", "[192.0.2.1]:80"] {
            #expect(throws: TestingError.self) { try Packet.Endpoint(text) }
        }
        // Through variables: initialised with a literal, the types take it as theirs and stop the test when it is wrong.
        let (mac, wrong) = ("02:00:00:00:00:0a", "2:0:0:0:0:a")
        #expect(try Packet.MAC(mac).description == mac)
        #expect(throws: TestingError.self) { try Packet.MAC(wrong) }
    }

    private func bytes(_ hexadecimal: String) -> [UInt8] {
        stride(from: 0, to: hexadecimal.count, by: 2).compactMap {
            UInt8(hexadecimal.dropFirst($0).prefix(2), radix: 16)
        }
    }
}
