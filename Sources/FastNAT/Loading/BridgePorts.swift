internal import Addresses
internal import BPF
internal import CDatapath
internal import Netlink

// The ports of a bridge that containers are behind: packets go past the bridge there. Without, or when anything fails here, they
// go through it.

extension DatapathMaps {
    /// Attaches `fastnat_port` to the ports of a bridge where that is not done yet, and leaves ports that have gone or no longer
    /// qualify. Of a link that is no bridge, or an uplink, there are none.
    ///
    /// - Returns: what is attached anew.
    @discardableResult
    func connectPorts(
        of bridge: Link, _ program: borrowing Descriptor, _ attachments: Attachments, isSettled: Bool = true
    ) -> [Attachment] {
        guard bridge.kind == "bridge", var interfaces = try? Interfaces() else { return [] }
        let all = attachments.all()
        let isUplink = all.contains { $0.role == .uplink && $0.interfaceIndex == bridge.index }
        let ports = interfaces.ports(of: bridge).filter { !isUplink && bridge.canBePassed && $0.isPlainPort }
        leavePorts(of: bridge, except: Set(ports.map(\.index)), all.filter { $0.role == .port }, attachments)

        let kind: TCAttachment = all.contains { $0.hook == .clsact } ? .clsact : .auto
        var (new, entered): ([Attachment], Set<UInt32>) = ([], [])
        for port in ports {
            let present = all.first { $0.role == .port && $0.interfaceIndex == port.index }
            if let present, attachments.isAlive(present), isEntered(port, bridge) {
                _ = try? notePeerOutput(port, isSettled: isSettled, &interfaces)
                continue
            }
            guard (try? enter(port, bridge)) != nil else { continue }
            entered.insert(port.index)
            do {
                if let attachment = try attachments.attachTC(.port, port.index, program, kind) {
                    new.append(attachment)
                }
                try noteOutput(port, isUplink: false, isSettled: isSettled)
            } catch {
                leavePort(port.index)
            }
        }
        if !entered.isEmpty {
            noteStations(interfaces.stations(of: bridge).filter { entered.contains($0.portIndex) }, bridge)
        }
        return new
    }

    /// Detaches, and where that was from a port, lets the bridge find the way to it.
    func leave(_ attachment: Attachment, _ attachments: Attachments) {
        if attachment.role == .port { leavePort(attachment.interfaceIndex) }
        attachments.detach(attachment)
    }

    private func leavePort(_ index: UInt32) {
        _ = try? bridgePortDevices.remove(index)
        _ = try? bridgePorts.remove(index)
        forgetOutput(index)
    }

    /// Leaves the ports that were this bridge's and are none now, and those that have gone.
    private func leavePorts(
        of bridge: Link, except staying: Set<UInt32>, _ present: [Attachment], _ attachments: Attachments
    ) {
        for attachment in present where !staying.contains(attachment.interfaceIndex) {
            let record = try? bridgePorts.value(attachment.interfaceIndex)
            if record?.bridge == bridge.index || !attachments.isAlive(attachment) { leave(attachment, attachments) }
        }
    }

    private func isEntered(_ port: Link, _ bridge: Link) -> Bool {
        guard let record = try? bridgePorts.value(port.index) else { return false }
        return record.bridge == bridge.index && bridge.mac == MACAddress(octets: record.bridge_mac)
    }

    private func enter(_ port: Link, _ bridge: Link) throws {
        guard let mac = bridge.mac else { return }
        var record = bridge_port()
        record.bridge = bridge.index
        record.bridge_mac = mac.octets
        try bridgePorts.set(port.index, record)
        try bridgePortDevices.set(port.index, port.index)
    }

    /// Gives the datapath what the bridge has learned already: the container may have nothing to say for a while.
    private func noteStations(_ stations: [BridgeStation], _ bridge: Link) {
        for station in stations {
            guard var record = try? bridgePorts.value(station.portIndex), record.confirmed == 0 else { continue }
            let mac = station.mac.octets
            record.station = mac
            record.confirmed = monotonicNow()
            var key = station_key()
            key.bridge = bridge.index
            key.mac = mac
            guard (try? bridgePorts.set(station.portIndex, record)) != nil else { continue }
            _ = try? bridgeStations.set(key, station.portIndex)
        }
    }
}

extension Link {
    /// Whether the bridge does nothing with a frame but send it by the port of its destination.
    fileprivate var canBePassed: Bool { !filtersVLANs && isUp }

    /// Whether a container or virtual machine is behind this port, and the bridge lets it talk to everybody.
    fileprivate var isPlainPort: Bool {
        guard let bridgePort, isEthernet, kind == "veth" || kind == "tun" else { return false }
        return bridgePort.isForwarding && bridgePort.isLearning && !bridgePort.isIsolated && !bridgePort.isLocked
    }
}
