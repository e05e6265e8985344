public import FastNAT

/// Why the plugin did not do what it was asked, as the specification has it: a code, a sentence, and perhaps details.
public struct CNIError: Error, Sendable, Hashable {
    /// What kind of error. Below 100 are the specification's.
    public enum Code: Int, Sendable, CaseIterable {
        case incompatibleVersion = 1
        case unsupportedField = 2
        case unknownContainer = 3
        case invalidEnvironment = 4
        case inputOutput = 5
        case undecodable = 6
        case invalidConfiguration = 7
        case tryAgainLater = 11
        case unavailable = 50
        case limitedConnectivity = 51
        case conflict = 100
        case unreachable = 101
        case full = 102
        case notForwarding = 103
        case failed = 104
        case changed = 105

        /// What it says, for the documentation.
        public var meaning: String {
            switch self {
            case .incompatibleVersion: "the version of the specification is not supported, or lacks the command"
            case .unsupportedField: "the configuration asks for something that fastnat does not do"
            case .unknownContainer: "CHECK: the container's network namespace is gone"
            case .invalidEnvironment: "a CNI_… variable is missing or wrong"
            case .inputOutput: "the configuration cannot be read, or the result not written"
            case .undecodable: "the configuration is not JSON"
            case .invalidConfiguration: "the configuration is wrong"
            case .tryAgainLater: "another fastnat has been at work for 30 s"
            case .unavailable: "fastnat cannot run here: kernel, rights, another version, or no uplink"
            case .limitedConnectivity: "STATUS: loaded, but attached to no uplink, or not to all of the configuration's"
            case .conflict: "a port is taken: by another mapping, whose owner is named, or by a local program"
            case .unreachable: "no way leads to the container, or an uplink cannot be used"
            case .full: "a table of fastnat's is full"
            case .notForwarding: "the kernel does not forward packets"
            case .failed: "the kernel refused something"
            case .changed: "CHECK: mappings are missing, or are other ones"
            }
        }
    }

    /// The kind.
    public let code: Code
    /// One sentence without a final stop.
    public let message: String
    /// More, for who looks for the cause.
    public let details: String?

    init(_ code: Code, _ message: String, details: String? = nil) {
        self.code = code
        self.message = message
        self.details = details
    }

    /// The error as it is printed for a runtime that speaks this version.
    public func value(for version: SpecificationVersion) -> JSONValue {
        var members: [String: JSONValue] = [
            "cniVersion": .string(version.rawValue), "code": .integer(Int64(code.rawValue)), "msg": .string(message),
        ]
        if let details { members["details"] = .string(details) }
        return .object(members)
    }
}

extension CNIError {
    /// The network configuration cannot be read.
    public init(unreadable error: FastNATError) {
        self.init(.inputOutput, "cannot read the network configuration", details: error.description)
    }

    /// What fastnat says, for a runtime.
    init(_ error: FastNATError) {
        self.init(
            Self.code(of: error),
            error.description(forcing: "write \"force\": true in the network configuration"),
            details: error.verifierLog)
    }

    private static func code(of error: FastNATError) -> Code {
        switch error {
        case .notPermitted, .notLoaded, .otherVersion, .kernelTooOld: .unavailable
        case .locked: .tryAgainLater
        case .mapping(.sctpPorts), .mapping(.sctpFamilies): .unsupportedField
        case .mapping, .mappingFile, .masquerade, .invalidFlowLimit, .invalidTimeout, .unreadableFile:
            .invalidConfiguration
        case .overlap, .portInUse, .listenersUnknown, .masqueradeExists, .flowLimitFixed: .conflict
        case .notRoutable, .networkNotRoutable, .noInterface, .unusableInterface: .unreachable
        case .mappingTableFull, .rangeTableFull, .allowListFull, .masqueradeTableFull, .exemptionTableFull: .full
        case .forwardingOff: .notForwarding
        case .noMapping, .noMappingOf, .noMasquerade, .noMasqueradeOf: .changed
        case .noHostAccess, .bpf, .netlink, .system: .failed
        }
    }
}

/// Runs `body`, and makes a CNIError of what fastnat throws.
func translating<Result>(_ body: () throws(FastNATError) -> Result) throws(CNIError) -> Result {
    do throws(FastNATError) {
        return try body()
    } catch {
        throw CNIError(error)
    }
}
