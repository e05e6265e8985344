import Foundation

/// What a fastnat that was loaded in a namespace has in the kernel and on disk, by the ids that the kernel gave it.
///
/// Others may run on the machine at the same time, so a leak is looked for among these ids, never by name.
public struct FastnatInstance: Sendable, CustomStringConvertible {
    /// Ids of programs.
    public let programs: Set<Int>
    /// Ids of maps.
    public let maps: Set<Int>
    /// Ids of links.
    public let links: Set<Int>
    private let cookie: UInt64

    /// Collects what belongs to the instance of this namespace: everything pinned, every program that uses one of those
    /// maps, and the links of those programs.
    public init(of namespace: NetworkNamespace) throws(TestingError) {
        cookie = try namespace.cookie
        let pins = "/run/fastnat/bpf/\(cookie)"
        var maps: Set<Int> = []
        for name in (try? FileManager.default.contentsOfDirectory(atPath: pins + "/maps")) ?? [] {
            if let id = try bpftool(["map", "show", "pinned", "\(pins)/maps/\(name)"]).first?["id"] as? Int {
                maps.insert(id)
            }
        }
        let users = try KernelObject.programs().filter { !maps.isDisjoint(with: $0.maps) }
        let programs = Set(users.map(\.id))
        self.programs = programs
        self.maps = users.reduce(into: maps) { $0.formUnion($1.maps) }
        links = Set(try KernelObject.links().filter { programs.contains($0.program) }.map(\.id))
    }

    /// Such as "3 programs, 14 maps, 2 links".
    public var description: String { "\(programs.count) programs, \(maps.count) maps, \(links.count) links" }

    /// Waits until the kernel has freed everything and no file is left; it frees programs and maps some time after the last
    /// reference went.
    public func awaitGone(timeout: Duration = .seconds(10)) throws(TestingError) {
        var left: [String] = []
        do throws(TestingError) {
            try awaitCondition("", timeout: timeout) { () throws(TestingError) in
                left = try leftovers()
                return left.isEmpty
            }
        } catch {
            throw .timedOut("fastnat is gone; left: \(left.joined(separator: ", "))")
        }
    }

    /// What is still there.
    public func leftovers() throws(TestingError) -> [String] {
        var left: [String] = []
        for (kind, ids) in [(KernelObject.link, links), (.program, programs), (.map, maps)] {
            for id in ids.sorted() where try kind.exists(id) { left.append("\(kind) \(id)") }
        }
        return left + Self.files(of: cookie)
    }

    /// The files of the namespace with that cookie, and fastnat's own file system when nobody is left who uses it.
    private static func files(of cookie: UInt64) -> [String] {
        let manager = FileManager.default
        let own = ["/run/fastnat/\(cookie)", "/run/fastnat/bpf/\(cookie)"].filter { manager.fileExists(atPath: $0) }
        guard own.isEmpty, let entries = try? manager.contentsOfDirectory(atPath: "/run/fastnat") else { return own }
        return entries.contains { UInt64($0) != nil } ? [] : ["/run/fastnat"]
    }
}

/// The objects that a `bpftool --json` command shows; one object counts as an array of one. Objects that go while it looks
/// make it complain, which does not matter here.
public func bpftool(_ arguments: [String]) throws(TestingError) -> [[String: Any]] {
    let result = try ChildProcess(["bpftool", "--json"] + arguments).wait()
    guard !result.outputBytes.isEmpty else { return [] }
    guard let value = try? JSONSerialization.jsonObject(with: Data(result.outputBytes)) else {
        throw .malformed("bpftool \(arguments.joined(separator: " ")): \(result)")
    }
    return value as? [[String: Any]] ?? (value as? [String: Any]).map { [$0] } ?? []
}
