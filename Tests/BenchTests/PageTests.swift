import FastNATTesting
import Foundation
import Testing

@testable import Bench

@Suite("The benchmark's page") struct PageTests {
    @Test("It loads nothing, and shows text as text")
    func selfContained() {
        let html = ReportPage(.sample()).html()
        for foreign in ["http://", "https://", "<script", "url(", "@import", " src="] {
            #expect(!html.contains(foreign))
        }
        #expect(html.contains("A &lt;Processor&gt;") && !html.contains("<Processor>"))
        #expect(html.contains("3 &lt;arrived&gt; &amp; &quot;no more&quot;"))
    }

    @Test("Bars are as long as their values")
    func bars() throws {
        let html = ReportPage(.sample()).html()
        func width(_ kind: String) throws -> Double {
            let match = try #require(html.firstMatch(of: try Regex("class=\"\(kind)\"[^>]* width=\"([0-9.]+)\"")))
            return try #require(match.output[1].substring.flatMap { Double($0) })
        }
        #expect(abs(try width("ours") / width("reference") - 4) < 0.05)
    }

    static let chromium = "/usr/bin/chromium"
    static let hasChromium = FileManager.default.isExecutableFile(atPath: chromium)

    @Test(
        "Chromium draws it in light and in dark, and has nothing to complain of",
        .enabled(if: hasChromium, "needs chromium"),
        arguments: [false, true])
    func browser(dark: Bool) throws {
        let folder = NSTemporaryDirectory() + "bench-page-\(UUID())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try ReportPage(.sample()).html().write(toFile: folder + "/page.html", atomically: true, encoding: .utf8)
        let common = [
            Self.chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
            "--user-data-dir=\(folder)/profile", "--window-size=1280,1600", "--enable-logging=stderr", "--v=0",
            "--blink-settings=preferredColorScheme=\(dark ? 0 : 1)",
        ]
        let shot = try ChildProcess(common + ["--screenshot=\(folder)/shot.png", "file://\(folder)/page.html"])
            .wait(timeout: .seconds(60))
        #expect(shot.succeeded && !shot.errors.contains("CONSOLE"), "\(shot)")
        let dump = try ChildProcess(common + ["--dump-dom", "file://\(folder)/page.html"]).wait(timeout: .seconds(60))
        #expect(dump.output.components(separatedBy: "<svg viewBox=\"0 0 560").count - 1 == 2, "\(dump)")
        let picture = try Data(contentsOf: URL(filePath: folder + "/shot.png"))
        // A page with text and charts; an empty one of this size is a few kB.
        #expect(picture.count > 30_000)
    }
}
