// swift-tools-version: 6.1
import PackageDescription

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "fastnat",
    products: [
        .executable(name: "fastnat", targets: ["CLI"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.90.0"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    ],
    targets: [
        .systemLibrary(name: "CLibbpf", pkgConfig: "libbpf", providers: [.apt(["libbpf-dev"])]),
        .systemLibrary(name: "CMnl", pkgConfig: "libmnl", providers: [.apt(["libmnl-dev"])]),
        .target(name: "CLinux"),
        .target(name: "CDatapath"),
        .target(name: "CBench"),

        .target(name: "Addresses", dependencies: ["CLinux"], swiftSettings: strict),
        .target(name: "Netlink", dependencies: ["Addresses", "CLinux", "CMnl"], swiftSettings: strict),
        .target(name: "BPF", dependencies: ["CLibbpf", "CLinux"], swiftSettings: strict),
        .target(
            name: "FastNAT",
            dependencies: ["Addresses", "BPF", "CDatapath", "CLinux", "Netlink"],
            swiftSettings: strict),
        .target(
            name: "Configuration",
            dependencies: ["Addresses", "FastNAT", .product(name: "Yams", package: "Yams")],
            swiftSettings: strict),
        .target(name: "Rules", dependencies: ["Addresses", "FastNAT"], swiftSettings: strict),
        .target(
            name: "Docker",
            dependencies: [
                "Addresses", "FastNAT",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: strict),
        .target(name: "CNI", dependencies: ["Addresses", "FastNAT"], swiftSettings: strict),
        .executableTarget(
            name: "CLI",
            dependencies: [
                "Addresses", "Bench", "CNI", "Configuration", "Docker", "FastNAT", "Rules",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(name: "Bench", dependencies: ["BPF", "CBench", "FastNAT", "Lab"], swiftSettings: strict),
        .target(name: "Lab", dependencies: ["CLinux"], swiftSettings: strict),
        .target(name: "FastNATTesting", dependencies: ["CLibbpf", "CLinux", "Lab"], swiftSettings: strict),

        .testTarget(
            name: "FastNATTests",
            dependencies: [
                "Addresses", "CLI", "CNI", "Configuration", "Docker", "FastNAT", "FastNATTesting", "Netlink", "Rules",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            exclude: ["Docker/Fixtures", "Rules/Fixtures"],
            swiftSettings: strict),
        .testTarget(
            name: "DatapathTests",
            dependencies: ["Addresses", "BPF", "CDatapath", "FastNAT", "FastNATTesting"],
            swiftSettings: strict),
        .testTarget(name: "BenchTests", dependencies: ["Bench", "FastNATTesting"], swiftSettings: strict),
        .testTarget(
            name: "EndToEndTests",
            dependencies: ["Addresses", "Bench", "CDatapath", "CLI", "CNI", "FastNATTesting"],
            swiftSettings: strict),
    ]
)
