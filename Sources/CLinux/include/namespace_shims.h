/*
 * Calls that glibc hides behind _GNU_SOURCE (setns, memfd_create, pidfd_open, umount2, closing
 * descriptors in a child), and the clean-up of named
 * namespaces when a signal ends the process: a signal handler may not enter the Swift runtime, so it is written in C.
 * Functions return 0 or a descriptor, and -1 with errno set, like the system calls they stand for.
 */
#pragma once

#include <spawn.h>
#include <stdbool.h>
#include <sys/types.h>

/* Moves the calling thread into the network namespace named by `path`. */
int clinux_enter_network_namespace(const char *path);

/* Takes a named namespace away again, as `ip netns del` does: unmount, unlink. A plain file is only unlinked. */
int clinux_delete_network_namespace(const char *path);

/* An unnamed, close-on-exec file in memory: a child's output, or its input. */
int clinux_anonymous_file(const char *name);

/* A descriptor that polls readable once the process has ended. */
int clinux_pidfd_open(pid_t pid);

/* Makes processes whose parents have ended this one's children (PR_SET_CHILD_SUBREAPER); prctl is variadic. */
int clinux_adopt_orphans(void);

/* Makes a spawned child close every descriptor from `lowest` on. */
int clinux_spawn_close_from(posix_spawn_file_actions_t *actions, int lowest);

/*
 * What must not outlive this process: at exit, SIGINT, SIGTERM or SIGHUP each registered process group is killed, then
 * each registered path deleted. `forget` undoes an `add`. false: the table is full, or the path too long.
 */
bool clinux_cleanup_add_path(const char *path);
void clinux_cleanup_forget_path(const char *path);
bool clinux_cleanup_add_group(pid_t group);
void clinux_cleanup_forget_group(pid_t group);
/* A directory of files that several processes keep: removed after the paths, when it is empty then. */
bool clinux_cleanup_set_directory(const char *path);

/* Installs the handlers; call once. A signal that is ignored stays ignored, an earlier handler runs afterwards. */
void clinux_cleanup_install(void);
