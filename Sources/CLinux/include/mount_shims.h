/*
 * Mounting in another mount namespace. setns(CLONE_NEWNS) is refused to a process with threads and would change what the
 * caller sees, so a forked child does it; between fork and exit only async-signal-safe calls are allowed, hence C.
 * Functions return 0, or -1 with errno set.
 */
#pragma once

#include <stdbool.h>

/* Mounts a bpf file system on `path` (an existing directory), in the mount namespace that `namespace` is open on, or in the
 * caller's if it is -1. */
int clinux_mount_bpf_filesystem(int mount_namespace, const char *path);

/* Whether `path` is in a bpf file system. (statfs(2) is in no module of the Swift toolchain.) */
bool clinux_is_bpf_filesystem(const char *path);

/* Unmounts `path` there, if it is a mount point, and removes the directory. A directory can be removed although a copy of
 * the mount is left in another namespace, but not from within that one. */
int clinux_unmount_and_remove(int mount_namespace, const char *path);

/* The cookie of the caller's network namespace: unique as long as the machine is up (Linux 5.14). 0 and errno on failure. */
unsigned long long clinux_network_namespace_cookie(void);
