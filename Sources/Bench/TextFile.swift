internal import Glibc

/// A file of text; nil when there is none, or it cannot be read. Files of /proc and /sys, whose size is not known, too.
func textFile(_ path: String) -> String? {
    guard let file = fopen(path, "re") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    return String(decoding: bytes, as: UTF8.self)
}

/// Puts text into a file, in place of what was there. false: it cannot be written, as errno says.
func writeTextFile(_ path: String, _ text: String) -> Bool {
    guard let file = fopen(path, "we") else { return false }
    let written = fputs(text, file) >= 0
    return fclose(file) == 0 && written
}
