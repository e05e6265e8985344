import BPF
import CDatapath
import Testing

@testable import FastNAT

/// Mappings that are added without a look at all that are there.
@Suite struct AdditionTests {
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `few look-ups find out what a look at all mappings would`(seed: UInt64) throws {
        var random = Generator(seed: seed)
        let kind = Kind.all[Int(seed) % Kind.all.count]
        let datapath = try TestDatapath([])
        var model = MappingModel(kind: kind)
        var (quick, refused) = (0, 0)
        for _ in 0..<300 {
            guard let mapping = try model.random(&random) else { continue }
            let isSettled = try datapath.maps.currentSettings().first_free_id > 0
            let isFree = model.add(mapping)
            let addition = try datapath.maps.addition(of: [mapping], owner: nil)
            #expect((addition != nil) == (isFree && isSettled && mapping.listen.ports.count <= 64), "\(mapping)")
            quick += addition == nil ? 0 : 1
            if isFree {
                try datapath.datapath.addMappings([mapping])
            } else {
                refused += 1
                #expect(throws: FastNATError.self) { try datapath.datapath.addMappings([mapping]) }
            }
            if Int.random(in: 0..<4, using: &random) == 0, let doomed = model.mappings.randomElement(using: &random) {
                model.mappings.removeAll { $0 == doomed }
                try datapath.datapath.removeMappings([doomed.listen])
            }
            let entries = try datapath.maps.mappingEntries()
            #expect(Set(entries.map(\.mapping)) == Set(model.mappings))
            #expect(Set(entries.map(\.id)).count == entries.count)
            let settings = try datapath.maps.currentSettings()
            #expect(entries.allSatisfy { $0.id < settings.first_free_id })
            #expect((settings.has_ranges != 0) == entries.contains(where: \.isRange))
        }
        #expect(quick > 20 && refused > 20)
    }

    @Test func `mappings that overlap each other are not added`() throws {
        let datapath = try TestDatapath(["80 172.20.0.2:80"])
        let mappings = try ["90-92 172.20.0.2:90", "92 172.20.0.2:1"].map { try PortMapping(parsing: $0) }
        #expect(try datapath.maps.addition(of: mappings, owner: nil) == nil)
        #expect(try datapath.maps.addition(of: Array(mappings.prefix(1)), owner: nil)?.entries.count == 1)
    }

    @Test func `what fails after the last step is taken back`() throws {
        struct Failure: Error {}
        let datapath = try TestDatapath(["80 172.20.0.2:80"])
        let before = try datapath.datapath.mappings()
        let new = try PortMapping(parsing: "192.0.2.1:90-99 172.20.0.2:90 allow=10.0.0.0/8 limit-flows=7")
        let addition = try #require(try datapath.maps.addition(of: [new], owner: .one))
        #expect(throws: Failure.self) { try datapath.maps.carryOut(addition) { throw Failure() } }
        #expect(try datapath.datapath.mappings() == before)
        #expect(try datapath.leftovers() == [])
        let settings = try datapath.maps.currentSettings()
        #expect(settings.has_ranges == 0 && settings.has_addressed_mappings == 0 && settings.first_free_id == 0)
        try datapath.datapath.addMappings([new], of: .one)
        #expect(try datapath.datapath.mappings().count == 2)
    }

    @Test func `identifiers of flows that drain are left alone`() throws {
        let kind = Kind.all[0]
        let datapath = try TestDatapath(kind.family.standardMappings)
        let conversation = Conversation(kind)
        try datapath.open(conversation)
        let standard = try datapath.datapath.mappings()
        let id = try #require(standard.first { $0.flows > 0 }).id
        try datapath.maps.noteChange { $0.first_free_id = id }
        let new = try PortMapping(parsing: kind.family.mapping("999/\(kind.transport)", to: "99"))
        #expect(try datapath.maps.addition(of: [new], owner: nil) == nil)
    }
}
