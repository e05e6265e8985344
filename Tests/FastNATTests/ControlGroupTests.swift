import Testing

@testable import FastNAT

@Suite("control groups") struct ControlGroupTests {
    private static let proc = "22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw"
    private static let old = "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids"

    @Test(
        "the root is where a cgroup v2 file system is mounted, as a whole if anywhere",
        arguments: [
            (["30 24 0:26 / /sys/fs/cgroup rw shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate"], "/sys/fs/cgroup"),
            (["41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"], "/sys/fs/cgroup/unified"),
            (["41 31 0:38 / /run/c\\040g\\134x rw - cgroup2 none rw"], "/run/c g\\x"),
            (["50 31 0:38 /a.slice /mnt rw - cgroup2 none rw", "51 31 0:38 / /cg rw - cgroup2 none rw"], "/cg"),
            (["50 31 0:38 /a.slice /mnt rw - cgroup2 none rw"], "/mnt"),
        ])
    func mountPoint(_ mounts: [String], _ expected: String) {
        #expect(controlGroupMountPoint(in: [Self.proc, Self.old] + mounts + [""]) == expected)
    }

    @Test("there is none where only cgroup v1 is mounted, or a device is called so")
    func none() {
        let named = "60 31 0:40 / /mnt rw - tmpfs cgroup2 rw"
        #expect(controlGroupMountPoint(in: [Self.proc, Self.old, named]) == nil)
    }
}
