import FastNAT
import Testing

@testable import CNI

@Suite("CNI: commands and errors") struct PluginTests {
    private static let versions = SpecificationVersion.allCases.map(\.rawValue)
    private static let result =
        #""prevResult": {"ips": [{"address": "10.1.0.2/24"}], "dns": {"nameservers": ["10.1.0.1"]}, "other": [1, 2.5, null]}"#

    @Test("VERSION answers in the version it is asked in, and in the latest when that is not known")
    func version() throws {
        for version in Self.versions {
            let (value, _) = try respond(["CNI_COMMAND": "VERSION"], #"{"cniVersion": "\#(version)"}"#)
            #expect(value?["cniVersion"]?.string == version)
            #expect(value?["supportedVersions"]?.array?.compactMap(\.string) == Self.versions)
        }
        for input in ["", "{}", #"{"cniVersion": "9.0.0"}"#] {
            #expect(try respond(["CNI_COMMAND": "VERSION"], input).value?["cniVersion"]?.string == "1.1.0")
        }
    }

    @Test("ADD without ports hands the result on, in every version", arguments: versions)
    func add(version: String) throws {
        let (value, _) = try respond(environment("ADD"), configuration(version, Self.result))
        #expect(value?["cniVersion"]?.string == version)
        #expect(value?["ips"] == (try json(#"[{"address": "10.1.0.2/24"}]"#)))
        #expect(value?["other"] == (try json("[1, 2.5, null]")))
        #expect(value?["dns"] == (try json(#"{"nameservers": ["10.1.0.1"]}"#)))
    }

    @Test("Commands are there from the version on that brought them")
    func commands() throws {
        for version in Self.versions {
            let expected = version >= "0.4.0" ? nil : 1
            #expect(
                try respond(environment("CHECK"), configuration(version, Self.result)).code == expected, "\(version)")
        }
        for command in ["GC", "STATUS"] {
            #expect(try respond(["CNI_COMMAND": command], configuration("1.0.0")).code == 1)
        }
    }

    @Test("An unknown version is error 1, in a version that is known", arguments: ["", "0.2.0", "1.2.0", "x"])
    func unknownVersion(_ version: String) throws {
        let (value, code) = try respond(environment("ADD"), configuration(version, Self.result))
        #expect(code == 1)
        #expect(value?["cniVersion"]?.string == "1.1.0")
        #expect(value?["msg"]?.string?.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0") == true)
    }

    @Test(
        "A missing or wrong variable is error 4",
        arguments: [
            ("ADD", "CNI_COMMAND", nil), ("ADD", "CNI_COMMAND", "EAT"), ("ADD", "CNI_CONTAINERID", nil),
            ("ADD", "CNI_CONTAINERID", "-c"), ("ADD", "CNI_CONTAINERID", "a/b"), ("ADD", "CNI_IFNAME", ""),
            ("DEL", "CNI_IFNAME", "longer-than-fits"), ("CHECK", "CNI_IFNAME", ".."), ("CHECK", "CNI_NETNS", nil),
            ("ADD", "CNI_NETNS", nil),
        ] as [(String, String, String?)])
    func variables(command: String, name: String, value: String?) throws {
        let (answer, code) = try respond(environment(command, [name: value]), configuration("1.0.0", Self.result))
        #expect(code == 4)
        #expect(answer?["msg"]?.string?.contains(name) == true)
    }

    @Test("What cannot be read is error 5, what is no JSON 6, and what is wrong 7")
    func input() throws {
        let unreadable = Plugin.respond(
            environment: environment("ADD"),
            input: { () throws(CNIError) in throw CNIError(unreadable: .unreadableFile("-", errno: 5)) }, note: { _ in }
        )
        #expect(!unreadable.succeeded)
        #expect(unreadable.output.contains(#""code":5"#))
        for text in ["", "{", "nothing", "[]"] { #expect(try respond(environment("ADD"), text).code == 6, "\(text)") }
        for text in [
            #"{"cniVersion": "1.0.0", "name": "-", \#(Self.result)}"#, configuration("1.0.0"),
            configuration("1.0.0", #""prevResult": [1]"#), configuration("1.0.0", #"\#(Self.result), "mode": "fast""#),
            configuration("1.0.0", #"\#(Self.result), "uplinks": "eth0""#),
            configuration(
                "1.0.0", #"\#(Self.result), "runtimeConfig": {"portMappings": [{"hostPort": 0, "containerPort": 1}]}"#),
            configuration("1.0.0", #""prevResult": {"ips": [{"address": "10.1.0/24"}]}"#),
            configuration(
                "1.0.0", #""prevResult": {}, "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1}]}"#),
        ] {
            let (value, code) = try respond(environment("ADD"), text)
            #expect(code == 7, "\(text)")
            #expect(value?["msg"]?.string?.isEmpty == false && value?["cniVersion"]?.string == "1.0.0")
        }
        #expect(try respond(["CNI_COMMAND": "GC"], configuration("1.1.0")).code == 7)
    }

    @Test("CHECK of a container whose network namespace is gone is error 3")
    func gone() throws {
        let environment = environment("CHECK", ["CNI_NETNS": "/run/netns/no-such-namespace"])
        #expect(try respond(environment, configuration("1.0.0", Self.result)).code == 3)
    }

    @Test("Error codes below 100 are the specification's")
    func codes() {
        #expect(CNIError.Code.allCases.map(\.rawValue).filter { $0 < 100 } == [1, 2, 3, 4, 5, 6, 7, 11, 50, 51])
    }
}
