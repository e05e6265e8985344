public import Addresses

/// The interface that packets to anywhere leave by; nil when no route leads everywhere, or when nothing can be found out.
public func defaultUplink(_ family: IPFamily) -> String? {
    guard var interfaces = try? Interfaces() else { return nil }
    return interfaces.defaultUplink(family)
}
