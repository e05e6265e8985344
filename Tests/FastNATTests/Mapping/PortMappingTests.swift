import Addresses
import FastNAT
import Testing

@Suite struct PortMappingTests {
    @Test(arguments: [
        ("80 172.17.0.2:8080", "0.0.0.0:80/tcp 172.17.0.2:8080"),
        ("80 [2001:db8::2]:8080", "[::]:80/tcp [2001:db8::2]:8080"),
        ("0.0.0.0:80/tcp\t172.17.0.2:8080", "0.0.0.0:80/tcp 172.17.0.2:8080"),
        ("  192.0.2.1:53/udp   172.17.0.2:53  ", "192.0.2.1:53/udp 172.17.0.2:53"),
        ("8000-8099 172.17.0.2:9000-9099", "0.0.0.0:8000-8099/tcp 172.17.0.2:9000-9099"),
        ("8000-8099 172.17.0.2:80", "0.0.0.0:8000-8099/tcp 172.17.0.2:80"),
        (
            "80 172.17.0.2:80 allow=192.0.2.0/24,10.0.0.0/8,192.0.2.0/24",
            "0.0.0.0:80/tcp 172.17.0.2:80 allow=10.0.0.0/8,192.0.2.0/24"
        ),
        (
            "80 172.17.0.2:80 limit-rate=90/m allow=192.0.2.7 limit-flows=100 limit-rate-per-source=10",
            "0.0.0.0:80/tcp 172.17.0.2:80 allow=192.0.2.7/32 limit-flows=100 limit-rate=90/m limit-rate-per-source=10/s"
        ),
        ("9/sctp 172.17.0.2:9 limit-flows-per-source=1", "0.0.0.0:9/sctp 172.17.0.2:9 limit-flows-per-source=1"),
        ("80 172.17.0.2:80 allow=192.0.2.7", "0.0.0.0:80/tcp 172.17.0.2:80 allow=192.0.2.7/32"),
    ])
    func `a mapping parses and prints in its canonical form`(text: String, canonical: String) throws {
        let mapping = try PortMapping(parsing: text)
        #expect(mapping.description == canonical)
        #expect(try PortMapping(parsing: canonical) == mapping)
        #expect(mapping.listen.family == mapping.family)
    }

    @Test(arguments: [
        ("", "the listen part is missing"),
        ("80", "the target is missing"),
        ("80 172.17.0.2:80 10.0.0.0/8", "does not begin with allow="),
        ("80 172.17.0.2:80 allow=10.0.0.0/8 x", "does not begin with allow= or a limit"),
        ("80 172.17.0.2:80 allow=10.0.0.0/8 allow=10.0.0.0/8", "allow= is there twice"),
        ("80 172.17.0.2:80 limit-flows=1 limit-flows=1", "limit-flows= is there twice"),
        ("80 172.17.0.2:80 limit-flows=0", "limit-flows \"0\": write a number of flows from 1 to 16777215"),
        ("80 172.17.0.2:80 limit-flows-per-source=16777216", "from 1 to 16777215"),
        ("80 172.17.0.2:80 limit-flows=", "limit-flows \"\""),
        ("80 172.17.0.2:80 limit-rate=0/s", "limit-rate \"0/s\": write a number of new flows from 1 to 1000000"),
        ("80 172.17.0.2:80 limit-rate=9/h", "a second or minute: 10/s, 90/m"),
        ("80 172.17.0.2:80 limit-rate-per-source=1000001", "from 1 to 1000000"),
        ("80 172.17.0.2:80 limit-rate=/s", "limit-rate \"/s\""),
        ("80 172.17.0.2:80 allow=", "there is no address"),
        ("80 172.17.0.2:80 allow=10.0.0.0/8,", "there is no address"),
        ("80 172.17.0.2:80 allow=10.0.0.1/8", "the network 10.0.0.0/8"),
        ("80 172.17.0.2:80 allow=2001:db8::/32", "2001:db8::/32 can never match in an IPv4 mapping"),
        ("8000-8009 172.17.0.2:80-81", "8000-8009 is 10 ports but the target's 80-81 is 2"),
        ("80 172.17.0.2:80-81", "80 is 1 ports but"),
        ("9/sctp 172.17.0.2:10", "from 9 to 10: its CRC32c covers the ports"),
        ("9-11/sctp 172.17.0.2:9", "let the program listen on 9-11, or publish 9"),
        ("9-11/sctp 172.17.0.2:10-12", "from 9-11 to 10-12"),
        ("[::]:9/sctp 172.17.0.2:9", "between IPv4 and IPv6"),
    ])
    func `a wrong mapping is refused with its reason`(text: String, reason: String) {
        let error = #expect(throws: MappingError.self) { try PortMapping(parsing: text) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }

    @Test(arguments: [
        ("80 172.17.0.2:80", "80 172.17.0.3:80", true),
        ("80 172.17.0.2:80", "0.0.0.0:80 172.17.0.2:80", true),
        ("80 172.17.0.2:80", "80/udp 172.17.0.2:80", false),
        ("80 172.17.0.2:80", "81 172.17.0.2:80", false),
        ("80 172.17.0.2:80", "80 [2001:db8::2]:80", false),
        ("80 172.17.0.2:80", "192.0.2.1:80 172.17.0.2:80", false),
        ("192.0.2.2:80 172.17.0.2:80", "192.0.2.1:80 172.17.0.2:80", false),
        ("192.0.2.1:80 172.17.0.2:80", "192.0.2.1:80 172.17.0.3:80", true),
        ("8000-8010 172.17.0.2:80", "8010-8020 172.17.0.3:80", true),
        ("8000-8010 172.17.0.2:80", "8011-8020 172.17.0.3:80", false),
    ])
    func `mappings overlap when they claim the same port on the same address`(
        left: String, right: String, overlap: Bool
    ) throws {
        let (left, right) = try (PortMapping(parsing: left), PortMapping(parsing: right))
        #expect(left.overlaps(right) == overlap)
        #expect(right.overlaps(left) == overlap)
    }

    @Test func `whatever parses prints back, whatever does not is refused`() {
        let pieces = [
            "80", "0", "1-2", "-", ":", "[", "]", "/", "/tcp", "/udp", " ", "\t", "allow=", ",", "192.0.2.1",
            "10.0.0.0/8",
            "2001:db8::2", "::", "%", "#", "\n", "é", "\0", "172.17.0.2:80", "[2001:db8::2]:80",
        ]
        func random(_ count: ClosedRange<Int>) -> String {
            (0..<Int.random(in: count)).compactMap { _ in pieces.randomElement() }.joined()
        }
        var parsed = 0
        for _ in 0..<20_000 {
            // About one in a hundred is right.
            let target = ["172.17.0.2:80", "[2001:db8::2]:80", random(0...3)].randomElement() ?? ""
            let text = "\(random(0...2)) \(target)\(["", " allow=10.0.0.0/8", random(0...3)].randomElement() ?? "")"
            guard let mapping = try? PortMapping(parsing: text) else { continue }
            parsed += 1
            #expect((try? PortMapping(parsing: mapping.description)) == mapping, "\(text.debugDescription)")
        }
        #expect(parsed > 0)
    }

    @Test func `a range maps port by port, a single target takes all`() throws {
        let range = try PortMapping(parsing: "8000-8099 172.17.0.2:65436-65535")
        #expect(range.targetPort(for: 8000) == 65436)
        #expect(range.targetPort(for: 8099) == 65535)
        #expect(range.targetPort(for: 8100) == nil)
        #expect(try PortMapping(parsing: "8000-8099 172.17.0.2:80").targetPort(for: 8099) == 80)
    }
}

@Suite struct MappingFileTests {
    @Test func `a file has a mapping on each line, comments and blank lines`() throws {
        let text = """
            # web
            80 172.17.0.2:8080

              443   172.17.0.2:8443   allow=10.0.0.0/8   # inside only
            \t# nothing
            53/udp 172.17.0.3:53\r
            """
        #expect(
            try MappingFile.parse(text).map(\.description) == [
                "0.0.0.0:80/tcp 172.17.0.2:8080",
                "0.0.0.0:443/tcp 172.17.0.2:8443 allow=10.0.0.0/8",
                "0.0.0.0:53/udp 172.17.0.3:53",
            ])
    }

    @Test(arguments: ["", "\n", "#", "\n\n# nothing\n"]) func `an empty file has no mappings`(text: String) throws {
        #expect(try MappingFile.parse(text).isEmpty)
    }

    @Test func `each wrong line is named`() {
        let error = #expect(throws: MappingFileError.self) {
            try MappingFile.parse("80 172.17.0.2:80\n90-80 172.17.0.2:80\n\n81 172.17.0.2\n")
        }
        #expect(error?.problems.map(\.line) == [2, 4])
        #expect(
            error?.description == """
                line 2: the range 90-80 ends before it begins; write 80-90
                line 4: "172.17.0.2": the port is missing; write IP:PORT[-END]
                """)
    }

    @Test func `an overlap names both lines, whatever lies between`() {
        let error = #expect(throws: MappingFileError.self) {
            try MappingFile.parse(
                """
                8500 172.17.0.2:80
                81 172.17.0.2:81
                9000/udp 172.17.0.2:9000
                192.0.2.1:8500 172.17.0.2:80
                8500 [2001:db8::2]:80
                8000-9000 172.17.0.3:80
                8999 172.17.0.4:80
                8001-8002 172.17.0.4:80
                """)
        }
        #expect(error?.problems.map { [$0.line, $0.otherLine ?? 0] } == [[6, 1], [7, 6], [8, 6]])
        #expect(
            error?.problems.first?.description == """
                line 6, with line 1: "0.0.0.0:8000-9000/tcp 172.17.0.3:80" claims ports that \
                "0.0.0.0:8500/tcp 172.17.0.2:80" already has; remove one or change its ports
                """)
    }

    @Test func `the overlaps agree with a comparison of all pairs`() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            let lines = (0..<12).map { _ in
                let first = Int.random(in: 1...40, using: &random)
                let host = ["", "192.0.2.1:", "192.0.2.2:"].randomElement(using: &random) ?? ""
                let transport = Bool.random(using: &random) ? "tcp" : "udp"
                return "\(host)\(first)-\(first + Int.random(in: 0...3, using: &random))/\(transport) 172.17.0.2:80"
            }
            let mappings = try lines.map { try PortMapping(parsing: $0) }
            var colliding = Set<Int>()
            for later in mappings.indices {
                for earlier in 0..<later where mappings[later].overlaps(mappings[earlier]) {
                    colliding.formUnion([earlier, later])
                }
            }
            do {
                _ = try MappingFile.parse(lines.joined(separator: "\n"))
                #expect(colliding.isEmpty)
            } catch {
                // Each named pair overlaps, and each mapping that overlaps another one before it in port order is named.
                for problem in error.problems {
                    let other = try #require(problem.otherLine)
                    #expect(mappings[problem.line - 1].overlaps(mappings[other - 1]))
                }
                let named = Set(error.problems.flatMap { [$0.line - 1, ($0.otherLine ?? 0) - 1] })
                #expect(named == colliding, "\(lines)")
            }
        }
    }

    @Test func `ten thousand lines take a moment`() throws {
        let text = (0..<10_000).map { "192.0.\($0 / 250).\($0 % 250 + 1):80 172.17.0.2:80 allow=10.0.0.0/8\n" }.joined()
        let clock = ContinuousClock()
        var count = 0
        let duration = try clock.measure { count = try MappingFile.parse(text).count }
        #expect(count == 10_000)
        // 200 ms in a release build; ten times as long without the optimiser, on a busy machine.
        #expect(duration < .seconds(2))
    }
}
