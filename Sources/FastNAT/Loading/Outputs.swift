internal import BPF
internal import Glibc
internal import Netlink

/// What an interface towards containers can do beside taking packets through its queue.
enum OutputAbility: CaseIterable {
    /// It takes frames that XDP redirects.
    case xdp
    /// Its other end may be given packets.
    case peer
}

// The interfaces that packets to containers leave by, and the ways there that the datapath may take.

extension DatapathMaps {
    /// Notes what an interface towards containers, as it was looked up just now, can do, so that what has been put on it since
    /// counts.
    ///
    /// - Parameter isSettled: whether all is on it that is to be there; otherwise nothing is passed by that was not before.
    /// - Returns: what was not noted before.
    @discardableResult
    func noteOutput(_ link: Link, isUplink: Bool, isSettled: Bool = true) throws -> [OutputAbility] {
        var interfaces = try Interfaces()
        var new: [OutputAbility] = []
        if try noteXDPOutput(link.index, &interfaces) { new.append(.xdp) }
        if try notePeerOutput(link, isUplink: isUplink, isSettled: isSettled, &interfaces) { new.append(.peer) }
        return new
    }

    /// The same of all interfaces that programs are attached to.
    func noteOutputs(_ attachments: Attachments) {
        guard var interfaces = try? Interfaces() else { return }
        let uplinks = attachments.uplinks()
        for index in Set(attachments.all().map(\.interfaceIndex)) {
            guard let link = interfaces.link(index) else { continue }
            _ = try? noteOutput(link, isUplink: uplinks.contains(index))
        }
    }

    /// Takes back what was noted.
    func forgetOutput(_ interfaceIndex: UInt32, _ abilities: [OutputAbility] = OutputAbility.allCases) {
        for ability in abilities {
            switch ability {
            case .xdp: _ = try? xdpOutputs.remove(interfaceIndex)
            case .peer: _ = try? peerOutputs.remove(interfaceIndex)
            }
        }
    }

    /// Lets XDP redirect to an interface, or not. A device that takes redirected frames has a NAPI of its own, or its peer has
    /// (GRO on in the container): otherwise they would be lost without a trace.
    ///
    /// - Returns: whether it is entered anew.
    @discardableResult
    func noteXDPOutput(_ interfaceIndex: UInt32, _ interfaces: inout Interfaces) throws -> Bool {
        guard try interfaces.xdpFeatures(interfaceIndex)?.contains(.ndoXmit) == true else {
            try xdpOutputs.remove(interfaceIndex)
            return false
        }
        return try enter(interfaceIndex, in: xdpOutputs)
    }

    /// Lets TC give packets to the other end of a veth, or not. Towards clients they leave as the host's own do.
    ///
    /// - Returns: whether it is entered anew.
    @discardableResult
    func notePeerOutput(
        _ link: Link, isUplink: Bool = false, isSettled: Bool, _ interfaces: inout Interfaces
    ) throws -> Bool {
        guard !isUplink, interfaces.isPassable(link) else {
            try peerOutputs.remove(link.index)
            return false
        }
        return isSettled ? try enter(link.index, in: peerOutputs) : false
    }

    /// - Returns: whether it is new. Without room, TC takes this interface's packets, through its queue.
    private func enter(_ interfaceIndex: UInt32, in outputs: borrowing Map<UInt32, UInt32>) throws(BPFError) -> Bool {
        guard try outputs.value(interfaceIndex) == nil else { return false }
        do throws(BPFError) {
            try outputs.set(interfaceIndex, interfaceIndex)
            return true
        } catch {
            guard error.code == E2BIG else { throw error }
            return false
        }
    }
}
