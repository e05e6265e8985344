internal import CLinux
internal import CMnl

extension NetlinkSocket<RouteBus> {
    /// Whether any traffic control filter is on the clsact queueing discipline of an interface, at ingress or egress.
    public mutating func hasClsactFilters(interfaceIndex: UInt32) throws(NetlinkError) -> Bool {
        for direction in [TC_H_MIN_INGRESS, TC_H_MIN_EGRESS] {
            var header = tcmsg()
            header.tcm_ifindex = Int32(truncatingIfNeeded: interfaceIndex)
            // TC_H_MAKE(TC_H_CLSACT, direction): a macro that Swift does not see
            header.tcm_parent = UInt32(TC_H_CLSACT) & 0xffff_0000 | UInt32(direction)
            let kinds = try dump(
                "list the filters of interface \(interfaceIndex)", type: RTM_GETTFILTER, header: header
            ) { _ in
            } parse: { message in
                message.payload(as: tcmsg.self)?.tcm_handle
            }
            if !kinds.isEmpty { return true }
        }
        return false
    }
}
