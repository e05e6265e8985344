/// The versions of the CNI specification that the plugin speaks.
public enum SpecificationVersion: String, Sendable, CaseIterable, Comparable {
    case v0_3_0 = "0.3.0"
    case v0_3_1 = "0.3.1"
    case v0_4_0 = "0.4.0"
    case v1_0_0 = "1.0.0"
    case v1_1_0 = "1.1.0"

    /// What is spoken to who does not say what he speaks.
    public static let latest = v1_1_0

    /// By age.
    public static func < (left: SpecificationVersion, right: SpecificationVersion) -> Bool {
        // The texts are of one form, and no part has two digits.
        left.rawValue < right.rawValue
    }

    /// The version that a text names.
    init(named text: String?) throws(CNIError) {
        guard let version = SpecificationVersion(rawValue: text ?? "") else {
            let known = SpecificationVersion.allCases.map(\.rawValue).joined(separator: ", ")
            throw CNIError(
                .incompatibleVersion,
                "cniVersion \((text ?? "").debugDescription) is not supported: write one of \(known)")
        }
        self = version
    }
}
