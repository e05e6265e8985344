import FastNATTesting
import Foundation
import Testing

/// Who publishes the ports: fastnat at either hook, or the kernel's own NAT, which shows what is to be expected.
enum Publisher: String, Sendable, CaseIterable {
    case fastnatTC = "fastnat-tc"
    case fastnatXDP = "fastnat-xdp"
    case iptables

    /// fastnat at both hooks.
    static let fastnat: [Publisher] = [.fastnatTC, .fastnatXDP]

    var isFastnat: Bool { self != .iptables }
    var mode: FastnatPath.Mode { self == .fastnatXDP ? .xdp : .tc }
}

/// What an expectation is run over.
struct Variant: Sendable, CustomTestStringConvertible {
    let publisher: Publisher
    let layout: Topology.Layout
    let family: Topology.Family

    var testDescription: String { "\(publisher.rawValue) \(layout) \(family)" }

    /// Everything.
    static let all = of(Publisher.allCases)
    /// fastnat alone, where the expectation is about fastnat.
    static let fastnat = of(Publisher.fastnat)
    /// Each publisher with each layout, the families alternating: for what takes long.
    static let some = all.enumerated().filter { index, variant in
        (variant.family == .v4) == ((index / 2 + index / 4) % 2 == 0)
    }.map(\.element)

    static func of(
        _ publishers: [Publisher], _ layouts: [Topology.Layout] = Topology.Layout.allCases,
        _ families: [Topology.Family] = Topology.Family.allCases
    ) -> [Variant] {
        publishers.flatMap { publisher in
            layouts.flatMap { layout in
                families.map { Variant(publisher: publisher, layout: layout, family: $0) }
            }
        }
    }
}

/// The tests need namespaces and BPF.
let isRoot = getuid() == 0
