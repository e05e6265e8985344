import Bench
import FastNATTesting
import Foundation
import Testing

@Suite("fastnat bench", .enabled(if: isRoot, "needs root"), .serialized)
struct BenchTests {
    private func spawn(_ arguments: String...) throws -> ChildProcess {
        try ChildProcess([FastnatPath.defaultBinary, "bench"] + arguments)
    }

    /// Namespaces, locks and lists of what to clean that are left of a process.
    private func leftovers(of token: String) -> [String] {
        ["/run/netns", "/run/fastnat-testing"].flatMap { folder in
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            return names.filter { $0.contains(token) }.map { "\(folder)/\($0)" }
        }
    }

    private func expectNothingLeft(of token: String) throws {
        do {
            try awaitCondition("nothing is left of \(token)", timeout: .seconds(60)) { leftovers(of: token).isEmpty }
        } catch {
            Issue.record("left over: \(leftovers(of: token)), and the lock is held by \(holders(of: token))")
        }
    }

    /// Command lines of those who keep others from cleaning up after a token.
    private func holders(of token: String) -> [String] {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.compactMap(Int32.init).filter { openLock(of: $0) == token }.map { process in
            let line = FileManager.default.contents(atPath: "/proc/\(process)/cmdline") ?? Data()
            return "\(process): \(String(decoding: line, as: UTF8.self).replacing("\0", with: " "))"
        }
    }

    /// What begins the names of a benchmark's namespaces, once it has one.
    private func token(of process: ChildProcess) throws -> String {
        var token: String?
        try awaitCondition("the benchmark has a namespace", timeout: .seconds(20)) {
            token = openLock(of: process.identifier)
            return token != nil
        }
        return try #require(token)
    }

    private func openLock(of process: Int32) -> String? {
        let folder = "/proc/\(process)/fd"
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return descriptors.lazy.compactMap { descriptor in
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\(descriptor)")
            guard let target, target.hasPrefix("/run/fastnat-testing/"), target.hasSuffix(".lock") else { return nil }
            return URL(filePath: target).deletingPathExtension().lastPathComponent
        }.first
    }

    @Test("A quick run has figures for each path, and leaves nothing", .timeLimit(.minutes(3)))
    func quick() throws {
        let file = NSTemporaryDirectory() + "bench-\(UUID()).json"
        defer { try? FileManager.default.removeItem(atPath: file) }
        let process = try spawn(
            "--quick", "--rounds", "1", "--paths", "iptables-nft,fastnat-tc,fastnat-xdp,other-tc", "--workloads",
            "pps,bulk,cps", "--against", FastnatPath.defaultBinary, "--json", file)
        let token = try token(of: process)
        let result = try process.wait(timeout: .seconds(150))
        #expect(result.succeeded, "\(result)")
        let report = try Report(readingFrom: file)
        #expect(report.workloads.map(\.name) == ["pps", "bulk", "cps"])
        for series in report.workloads.flatMap(\.series) {
            #expect(series.cells.map(\.path) == ["iptables-nft", "fastnat-tc", "fastnat-xdp", "other-tc"])
            for cell in series.cells { #expect((cell.median ?? 0) > 0, "\(series.name): \(cell)") }
        }
        #expect(result.output.contains("fastnat-xdp") && result.output.contains(" × other-tc"))
        #expect(try #require(report.machine.readNanoseconds) > 0)
        if report.machine.cpus > 1 { #expect(try #require(report.machine.lineNanoseconds) > 0) }
        try expectNothingLeft(of: token)
    }

    @Test("Interrupted, it takes everything away", arguments: [SIGINT, SIGTERM, SIGKILL])
    func interrupted(by number: Int32) throws {
        let process = try spawn("--quick", "--paths", "fastnat-tc", "--workloads", "pps")
        let token = try token(of: process)
        try awaitCondition("it is at work", timeout: .seconds(60)) { process.errors.contains("30 %") }
        process.signal(number)
        #expect(try process.wait().status == 128 + number)
        try cleanUp(after: token)
    }

    /// What a process that was killed cannot do itself, one that starts does, unless somebody holds the lock just then: a helper
    /// of the first that is at it, or one of its children that has yet to end. It is left alone until it has: an interrupt
    /// would end that, too.
    private func cleanUp(after token: String) throws {
        try awaitCondition("nobody holds the lock of \(token)", timeout: .seconds(60)) { holders(of: token).isEmpty }
        let next = try spawn("--quick", "--paths", "fastnat-tc", "--workloads", "pps")
        try awaitCondition("it is at work", timeout: .seconds(60)) { next.errors.contains("%") }
        try expectNothingLeft(of: token)
        next.signal(SIGINT)
        _ = try next.wait()
    }

    @Test("The machine's limits of connection tracking are as they were, also when it is killed")
    func conntrackLimits() throws {
        func limits() throws -> [String] {
            try ["/proc/sys/net/netfilter/nf_conntrack_max", "/sys/module/nf_conntrack/parameters/hashsize"]
                .map { try String(contentsOfFile: $0, encoding: .utf8) }
        }
        // They are the machine's: another copy of this test may be at it.
        func isHeld() -> Bool { FileManager.default.fileExists(atPath: "/run/fastnat-bench") }
        try awaitCondition("no other benchmark holds limits", timeout: .seconds(180)) { !isHeld() }
        let before = try limits()
        let process = try spawn("--quick", "--paths", "iptables-nft", "--workloads", "newflow")
        let token = try token(of: process)
        try awaitCondition("limits are raised, or high enough", timeout: .seconds(60)) {
            (try? limits()) != before || process.errors.contains("50 %")
        }
        process.signal(SIGKILL)
        _ = try process.wait()
        try awaitCondition("limits are as before", timeout: .seconds(180)) { (try? limits()) == before && !isHeld() }
        try cleanUp(after: token)
    }

    @Test(
        "Wrong arguments",
        arguments: [
            ["--paths", "nonsense"], ["--workloads", "pps,x"], ["--rounds", "0"], ["--paths", "other-tc"],
            ["--against", "/nothing"],
        ])
    func wrongArguments(arguments: [String]) throws {
        let result = try ChildProcess([FastnatPath.defaultBinary, "bench"] + arguments).wait()
        #expect(result.status == 64 && result.outputBytes.isEmpty, "\(result)")
    }

    @Test("A lead that was lost is exit status 76")
    func comparison() throws {
        let folder = NSTemporaryDirectory() + "bench-\(UUID())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for (name, value) in [("past", 4), ("present", 3)] {
            let text = """
                {"schema": 1, "seconds": 1, "settings": {"rounds": 1, "sampleSeconds": 1, "quick": true}, "paths": [], \
                "machine": {"processor": "", "cpus": 1, "memory": 1, "kernel": "", "system": "", "date": "", "fastnat": "", \
                "tools": {}, "offloads": [], "load": 0}, "workloads": [{"name": "pps", "title": "", "series": [{"name": "s", \
                "metric": "m", "unit": "packets/s", "cells": [\
                {"path": "iptables-nft", "samples": [1], "median": 1, "spread": 0}, \
                {"path": "fastnat-tc", "samples": [\(value)], "median": \(value), "spread": 0}]}]}]}
                """
            try text.write(toFile: "\(folder)/\(name).json", atomically: true, encoding: .utf8)
        }
        let (past, present) = ("\(folder)/past.json", "\(folder)/present.json")
        let lost = try spawn("--from", present, "--compare", past).wait()
        #expect(lost.status == 76 && lost.errors.contains("pps, s (m)"), "\(lost)")
        #expect(try spawn("--from", past, "--compare", present).wait().succeeded)
        let both = "\(folder)/both.json"
        #expect(try spawn("--from", past, "--from", present, "--json", both).wait().succeeded)
        #expect(try Report(readingFrom: both).workloads[0].series[0].cell("fastnat-tc")?.samples == [4, 3])
    }
}
