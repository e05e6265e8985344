internal import Addresses
internal import CDatapath

/// Who a mapping or masquerade belongs to: a short text such as `docker:4c01db0b339c` or `file`. One that was added by hand has
/// none.
public struct MappingOwner: Sendable, Hashable {
    /// The text: 1 to 256 bytes of UTF-8, without blanks and control characters.
    public let text: String

    /// The most bytes that a text may have.
    static let longest = Int(MAX_OWNER_LENGTH.rawValue)

    /// Who owns what configuration files say.
    public static let file = MappingOwner(checked: "file")

    /// Who owns what was imported from another packet filter.
    public static let imported = MappingOwner(checked: "import")

    private init(checked text: String) { self.text = text }

    /// The owner of that name.
    ///
    /// - Throws: when the text is empty, too long, or has a blank or a control character in it.
    public init(_ text: String) throws(MappingError) {
        let length = text.utf8.count
        guard length > 0 else { throw .invalidOwner(text, problem: "it is empty") }
        guard length <= Self.longest else {
            throw .invalidOwner(text, problem: "it has \(length) bytes, and \(Self.longest) is the most")
        }
        guard !text.utf8.span.hasBlank else {
            throw .invalidOwner(text, problem: "there is a space or a control character in it")
        }
        self.text = text
    }
}

extension MappingOwner: CustomStringConvertible {
    /// The text.
    public var description: String { text }
}
