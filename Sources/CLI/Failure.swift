internal import ArgumentParser
internal import FastNAT
internal import Glibc

/// Exit statuses, after <sysexits.h>: scripts rely on them.
enum ExitStatus: Int32, CaseIterable {
    case usage = 64
    case data = 65
    case noInput = 66
    case noHost = 68
    case unavailable = 69
    case software = 70
    case system = 71
    case conflict = 73
    case temporary = 75
    case slower = 76
    case notPermitted = 77

    /// What it says, for the help and the README.
    var meaning: String {
        switch self {
        case .usage: "wrong usage or malformed argument"
        case .data: "wrong file of mappings or configuration"
        case .noInput: "no such interface, mapping, masquerade or file"
        case .noHost: "target or network not routable"
        case .unavailable: "not loaded, loaded by another version, or no Docker"
        case .software: "a BPF operation, a query of the kernel or a system call failed"
        case .system: "kernel too old or not configured"
        case .conflict: "conflict or table full"
        case .temporary: "another fastnat is at work"
        case .slower: "bench --compare: fastnat lost ground"
        case .notPermitted: "not permitted"
        }
    }
}

extension FastNATError {
    var exitStatus: ExitStatus {
        switch self {
        case .notPermitted: .notPermitted
        case .notLoaded, .otherVersion: .unavailable
        case .noInterface, .noMapping, .noMappingOf, .noMasquerade, .noMasqueradeOf, .unreadableFile: .noInput
        case .unusableInterface, .mapping, .masquerade, .invalidFlowLimit, .invalidTimeout: .usage
        case .mappingFile: .data
        case .overlap, .portInUse, .mappingTableFull, .rangeTableFull, .allowListFull,
            .flowLimitFixed, .masqueradeExists, .masqueradeTableFull, .exemptionTableFull:
            .conflict
        case .notRoutable, .networkNotRoutable: .noHost
        case .forwardingOff, .kernelTooOld, .listenersUnknown, .noHostAccess: .system
        case .locked: .temporary
        case .bpf, .netlink, .system: .software
        }
    }
}

/// Runs the body of a command: an error becomes one sentence on stderr and its exit status.
///
/// - Parameter verbose: print the verifier's whole log, where there is one.
/// - Parameter location: where the cause of an error stands in a file.
/// - Parameter remedy: how one publishes what a local program listens on.
func reporting(
    verbose: Bool = false, at location: (FastNATError) -> String? = { _ in nil },
    forcing remedy: String = "add --force",
    _ body: () throws(FastNATError) -> Void
) throws {
    do throws(FastNATError) {
        try body()
    } catch {
        if verbose, let log = error.verifierLog { complain(log) }
        complain("fastnat: \(location(error).map { "\($0): " } ?? "")\(error.description(forcing: remedy))")
        throw ExitCode(error.exitStatus.rawValue)
    }
}

/// Writes a line on stderr: talk, as opposed to data.
func complain(_ text: String) {
    var line = text + "\n"
    line.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
}
