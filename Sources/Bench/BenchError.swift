public import BPF
public import Lab

/// Why something could not be measured.
public enum BenchError: Error, Sendable, CustomStringConvertible {
    /// Not root.
    case notPermitted
    /// Namespaces, processes.
    case lab(TestingError)
    /// The benchmark's own programs.
    case bpf(BPFError)
    /// A path that is not to be had here, or not for this workload; says why.
    case unavailable(String)
    /// Packets or bytes did not arrive as they should; says what happened instead.
    case wrong(String)
    /// A file of results that cannot be read or written; says why.
    case file(String)

    /// One sentence without a final stop.
    public var description: String {
        switch self {
        case .notPermitted: "the benchmark makes network namespaces and loads programs: run it as root"
        case .lab(let error): error.description
        case .bpf(let error): error.description
        case .unavailable(let text), .wrong(let text), .file(let text): text
        }
    }

    /// Its first line, for a cell of a table.
    var summary: String {
        description.split(separator: "\n").first.map { String($0.prefix(160)) } ?? description
    }
}

/// Runs what throws an error of the laboratory.
func lab<R>(_ body: () throws(TestingError) -> R) throws(BenchError) -> R {
    do throws(TestingError) { return try body() } catch { throw .lab(error) }
}

/// Runs what throws a BPF error.
func bpf<R: ~Copyable>(_ body: () throws(BPFError) -> R) throws(BenchError) -> R {
    do throws(BPFError) { return try body() } catch { throw .bpf(error) }
}

extension NetworkNamespace {
    /// Runs `body` on a thread of its own inside the namespace.
    func inside<R>(_ body: () throws(BenchError) -> R) throws(BenchError) -> R {
        let outcome: Result<R, BenchError> = try lab { () throws(TestingError) in
            try run { () throws(TestingError) in
                do throws(BenchError) { return .success(try body()) } catch { return .failure(error) }
            }
        }
        return try outcome.get()
    }
}
