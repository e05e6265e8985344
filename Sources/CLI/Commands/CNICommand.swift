internal import ArgumentParser

/// `fastnat cni`
struct CNICommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cni",
        abstract: "Do what a container runtime asks a CNI plugin for; the same as fastnat-cni.",
        discussion:
            "Reads CNI_COMMAND and its like, and the network configuration on standard input. See docs/kubernetes.md.",
        shouldDisplay: false)

    func run() { CNIEntry.run() }
}
