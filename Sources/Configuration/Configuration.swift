internal import Addresses
public import FastNAT

/// What a fastnat.yaml says: a state, and where in the file each part of it stands.
public struct Configuration: Sendable {
    /// Whose the mappings of files are.
    public static let owner = MappingOwner.file

    /// The state that is to be.
    public var state = DesiredState(owner: Configuration.owner)
    private let file: String
    private var positions: [Subject: Position] = [:]

    /// What an error can be about.
    enum Subject: Hashable {
        case interface(String)
        case mapping(PortMapping)
        case masquerade(IPPrefix)
        case masqueradeUplink(String)
        case maximumFlows
    }

    init(file: String) {
        self.file = file
    }

    mutating func note(_ subject: Subject, at position: Position?) {
        if positions[subject] == nil { positions[subject] = position }
    }

    func position(of subject: Subject) -> Position? { positions[subject] }

    /// Where the cause of an error stands: `fastnat.yaml:7:5`; nil when it is not in the file.
    public func location(of error: FastNATError) -> String? {
        subject(of: error).flatMap { positions[$0] }.map { "\(file):\($0)" }
    }

    private func subject(of error: FastNATError) -> Subject? {
        switch error {
        case .noInterface(let name), .unusableInterface(let name, _):
            positions[.interface(name)] == nil ? .masqueradeUplink(name) : .interface(name)
        case .masqueradeExists(let network, _), .networkNotRoutable(let network): .masquerade(network)
        case .masquerade(.notLocal(let source)):
            state.masquerades?.first { $0.source == source }.map { .masquerade($0.network) }
        case .overlap(let mapping, _, _): .mapping(mapping)
        case .portInUse(let listen, _, _): first { $0.listen == listen }
        case .notRoutable(let address, _): first { $0.target.address == address }
        case .flowLimitFixed, .invalidFlowLimit: .maximumFlows
        default: nil
        }
    }

    private func first(_ isMeant: (PortMapping) -> Bool) -> Subject? {
        state.mappings?.first { isMeant($0.mapping) }.map { .mapping($0.mapping) }
    }
}
