internal import Addresses
internal import ArgumentParser
internal import Configuration
internal import FastNAT
internal import Glibc

/// The listen part of a mapping, from an argument.
func parseListen(_ text: String) throws(FastNATError) -> Listen {
    do throws(MappingError) {
        return try Listen(parsing: text)
    } catch {
        throw .mapping(error)
    }
}

/// The owner of mappings, from an option that may be missing.
func parseOwner(_ text: String?) throws(FastNATError) -> MappingOwner? {
    guard let text else { return nil }
    do throws(MappingError) {
        return try MappingOwner(text)
    } catch {
        throw .mapping(error)
    }
}

/// A network, from an argument; an address alone is one of that host.
func parsePrefix(_ text: String) throws(MappingError) -> IPPrefix {
    do throws(AddressError) {
        return try IPPrefix(parsing: text)
    } catch {
        throw .invalidAddress(error)
    }
}

/// An address, from an argument.
func parseAddress(_ text: String) throws(MappingError) -> IPAddress {
    do throws(AddressError) {
        return try IPAddress(parsing: text)
    } catch {
        throw .invalidAddress(error)
    }
}

/// The mappings of a file; `-` is standard input.
func readMappings(from path: String) throws(FastNATError) -> [PortMapping] {
    let bytes = try readFile(path)
    do throws(MappingFileError) {
        return try MappingFile.parse(bytes.span)
    } catch {
        throw .mappingFile(error)
    }
}

/// The configuration in a file; `-` is standard input. What is wrong with it goes to stderr.
func readConfiguration(from path: String) throws -> Configuration {
    var text = ""
    try reporting { () throws(FastNATError) in text = String(decoding: try readFile(path), as: UTF8.self) }
    do throws(ConfigurationError) {
        return try Configuration(parsing: text, file: path == "-" ? "standard input" : path)
    } catch {
        complain(error.description)
        throw ExitCode(ExitStatus.data.rawValue)
    }
}

/// The bytes of a file; `-` is standard input.
func readFile(_ path: String) throws(FastNATError) -> [UInt8] {
    let descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .unreadableFile(path, errno: errno) }
    defer { if descriptor != STDIN_FILENO { close(descriptor) } }
    var bytes: [UInt8] = []
    let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 1)
    defer { chunk.deallocate() }
    while true {
        let count = read(descriptor, chunk.baseAddress, chunk.count)
        if count < 0 && errno == EINTR { continue }
        guard count >= 0 else { throw .unreadableFile(path, errno: errno) }
        if count == 0 { return bytes }
        bytes += chunk.prefix(count)
    }
}

/// What a program prints; nothing when there is no such program.
func output(of program: String, _ arguments: String = "") throws(FastNATError) -> [UInt8] {
    guard let pipe = popen("command -v \(program) >/dev/null || exit 0; \(program) \(arguments)", "r") else {
        throw .system(attempt: "run \(program)", errno: errno)
    }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&chunk, 1, chunk.count, pipe), count > 0 { bytes += chunk.prefix(count) }
    guard pclose(pipe) == 0 else { throw .system(attempt: "run \(program)", errno: EIO) }
    return bytes
}

/// Writes a file anew: whoever reads it meanwhile sees the old one or the new one, whole.
func replaceFile(_ path: String, with text: String) throws(FastNATError) {
    let new = "\(path).\(getpid())"
    guard let file = fopen(new, "wx") else { throw .system(attempt: "write \(path)", errno: errno) }
    let isWritten = fputs(text, file) >= 0 && fflush(file) == 0 && fsync(fileno(file)) == 0
    let code = errno
    fclose(file)
    guard isWritten, rename(new, path) == 0 else {
        let code = isWritten ? errno : code
        unlink(new)
        throw .system(attempt: "write \(path)", errno: code)
    }
}
