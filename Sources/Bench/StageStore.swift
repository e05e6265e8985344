internal import Lab

/// Builds the stages of a run, and keeps those of fastnat that a later group of measurements can have with other ports: to load
/// fastnat takes the kernel's verifier longer than most measurements take.
///
/// Only those that generators send frames to: sockets leave connections behind that wait in their namespaces for a minute.
final class StageStore {
    private let binary: String
    private let other: String?
    let generators: Generators
    /// How many groups are still to ask for one.
    private var demand: [Key: Int] = [:]
    private var kept: [Key: [Stage]] = [:]

    /// What stages have in common that can take each other's place.
    private struct Key: Hashable {
        let kind: PathKind
        let plan: Stage.Plan

        /// nil: for such a plan, none is kept.
        init?(_ kind: PathKind, _ plan: Stage.Plan) {
            guard kind.isFastnat, plan.takesFrames else { return nil }
            var plan = plan
            (plan.table, plan.flows, plan.services) = (plan.room, 0, [])
            (self.kind, self.plan) = (kind, plan)
        }
    }

    /// - Parameters:
    ///   - binary: the fastnat that paths of fastnat run.
    ///   - other: the one that paths of another build run; nil: there are none.
    ///   - requests: what will be asked for.
    init(binary: String, other: String? = nil, for requests: [(PathKind, Stage.Plan)]) throws(BenchError) {
        self.binary = binary
        self.other = other
        generators = try Generators()
        for (kind, plan) in requests {
            if let key = Key(kind, plan) { demand[key, default: 0] += 1 }
        }
    }

    /// The program that a path of fastnat runs.
    func binary(of kind: PathKind) -> String { kind.isOther ? other ?? binary : binary }

    /// Stages of one group of the requests, which go back to `giveBack`.
    func stages(_ kinds: [PathKind], _ plan: Stage.Plan) -> [Result<Stage, BenchError>] {
        let kept = kinds.map { kind in
            if let key = Key(kind, plan) { demand[key, default: 0] -= 1 }
            return keptStage(kind, plan)
        }
        return Crew.each(of: kinds.count) { number in
            if let stage = kept[number] { return .success(stage) }
            do throws(BenchError) {
                return .success(try Stage(kinds[number], plan, from: self))
            } catch {
                return .failure(error)
            }
        }
    }

    /// A stage that is not one of the requests.
    func additional(_ kind: PathKind, _ plan: Stage.Plan) throws(BenchError) -> Stage {
        if let stage = keptStage(kind, plan) { return stage }
        return try Stage(kind, plan, from: self)
    }

    /// One that is kept, with other ports.
    private func keptStage(_ kind: PathKind, _ plan: Stage.Plan) -> Stage? {
        guard let key = Key(kind, plan), let stage = kept[key]?.popLast() else { return nil }
        do throws(BenchError) {
            try stage.republish(plan.services)
            return stage
        } catch {
            stage.close()
            return nil
        }
    }

    /// Takes the stage away, or keeps it for a request to come.
    func giveBack(_ stage: Stage) {
        if stage.isSound, let key = Key(stage.kind, stage.plan), demand[key, default: 0] > 0 {
            kept[key, default: []].append(stage)
        } else {
            stage.close()
        }
    }

    /// Takes all that are kept away.
    func close() {
        for stage in kept.values.joined() { stage.close() }
        kept = [:]
    }
}
