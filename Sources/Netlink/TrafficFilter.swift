internal import CLinux
internal import CMnl

extension NetlinkSocket<RouteBus> {
    /// Whether any traffic control filter is on the clsact queueing discipline of an interface, at ingress or egress.
    public mutating func hasClsactFilters(interfaceIndex: UInt32) throws(NetlinkError) -> Bool {
        if try hasFilters(interfaceIndex, TC_H_MIN_INGRESS) { return true }
        return try hasFilters(interfaceIndex, TC_H_MIN_EGRESS)
    }

    /// The same at egress alone.
    public mutating func hasClsactEgressFilters(interfaceIndex: UInt32) throws(NetlinkError) -> Bool {
        try hasFilters(interfaceIndex, TC_H_MIN_EGRESS)
    }

    private mutating func hasFilters(_ interfaceIndex: UInt32, _ direction: UInt32) throws(NetlinkError) -> Bool {
        var header = tcmsg()
        header.tcm_ifindex = Int32(truncatingIfNeeded: interfaceIndex)
        // TC_H_MAKE(TC_H_CLSACT, direction): a macro that Swift does not see
        header.tcm_parent = UInt32(TC_H_CLSACT) & 0xffff_0000 | direction
        let handles = try dump(
            "list the filters of interface \(interfaceIndex)", type: RTM_GETTFILTER, header: header
        ) { _ in
        } parse: { message in
            message.payload(as: tcmsg.self)?.tcm_handle
        }
        return !handles.isEmpty
    }
}
