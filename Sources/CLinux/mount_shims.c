#define _GNU_SOURCE
#include "mount_shims.h"

#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static int mount_bpf_filesystem(const char *path)
{
	return mount("bpf", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700");
}

static int unmount_and_remove(const char *path)
{
	/* EINVAL: nothing is mounted there. */
	if (umount2(path, MNT_DETACH) != 0 && errno != EINVAL)
		return -1;
	return rmdir(path);
}

/* The child's exit status carries its errno. */
static int run_in(int mount_namespace, int (*action)(const char *), const char *path)
{
	int status;
	pid_t child;

	if (mount_namespace < 0)
		return action(path);
	child = fork();
	if (child < 0)
		return -1;
	if (child == 0)
		_exit(setns(mount_namespace, CLONE_NEWNS) != 0 || action(path) != 0 ? errno : 0);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
	return errno == 0 ? 0 : -1;
}

int clinux_mount_bpf_filesystem(int mount_namespace, const char *path)
{
	return run_in(mount_namespace, mount_bpf_filesystem, path);
}

int clinux_unmount_and_remove(int mount_namespace, const char *path)
{
	return run_in(mount_namespace, unmount_and_remove, path);
}

unsigned long long clinux_network_namespace_cookie(void)
{
	unsigned long long cookie = 0;
	socklen_t size = sizeof(cookie);
	int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (descriptor < 0)
		return 0;
	if (getsockopt(descriptor, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0)
		cookie = 0;
	close(descriptor);
	return cookie;
}

bool clinux_is_bpf_filesystem(const char *path)
{
	struct statfs status;

	return statfs(path, &status) == 0 && status.f_type == BPF_FS_MAGIC;
}
