#define _GNU_SOURCE
#include "namespace_shims.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int clinux_enter_network_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int result = setns(fd, CLONE_NEWNET);
	int saved = errno;
	close(fd);
	errno = saved;
	return result;
}

int clinux_delete_network_namespace(const char *path)
{
	/* EINVAL: nothing is mounted here (any more), so there is only a file to remove. */
	if (umount2(path, MNT_DETACH) != 0 && errno != EINVAL)
		return -1;
	return unlink(path);
}

int clinux_anonymous_file(const char *name)
{
	return memfd_create(name, MFD_CLOEXEC);
}

int clinux_pidfd_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

int clinux_adopt_orphans(void)
{
	return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

int clinux_spawn_close_from(posix_spawn_file_actions_t *actions, int lowest)
{
	return posix_spawn_file_actions_addclosefrom_np(actions, lowest);
}

/*
 * Fixed tables, because the handler may run at any instruction: an entry counts once `used` is set, which happens last
 * when adding and first when forgetting. The lock orders the writers among themselves; the handler does not take it.
 */
enum { MAX_PATHS = 512, MAX_GROUPS = 1024, PATH_SIZE = 96 };

static struct {
	volatile sig_atomic_t used;
	char path[PATH_SIZE];
} paths[MAX_PATHS];
static volatile pid_t groups[MAX_GROUPS];
static char directory[PATH_SIZE];
static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
/* Set when the process cleans up for good: whoever would add something then must not go on. */
static volatile sig_atomic_t stopping;

static void wait_for_the_end_if_stopping(void)
{
	while (stopping)
		pause();
}

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
static struct sigaction earlier_actions[sizeof(signals) / sizeof(signals[0])];

bool clinux_cleanup_add_path(const char *path)
{
	bool added = false;
	if (strlen(path) >= PATH_SIZE)
		return false;
	wait_for_the_end_if_stopping();
	pthread_mutex_lock(&tables_lock);
	for (int i = 0; i < MAX_PATHS && !added; i++) {
		if (paths[i].used)
			continue;
		strcpy(paths[i].path, path);
		paths[i].used = 1;
		added = true;
	}
	pthread_mutex_unlock(&tables_lock);
	return added;
}

void clinux_cleanup_forget_path(const char *path)
{
	pthread_mutex_lock(&tables_lock);
	for (int i = 0; i < MAX_PATHS; i++) {
		if (paths[i].used && strcmp(paths[i].path, path) == 0)
			paths[i].used = 0;
	}
	pthread_mutex_unlock(&tables_lock);
}

bool clinux_cleanup_set_directory(const char *path)
{
	if (strlen(path) >= PATH_SIZE)
		return false;
	strcpy(directory, path);
	return true;
}

static bool groups_replace(pid_t old, pid_t new)
{
	bool replaced = false;
	pthread_mutex_lock(&tables_lock);
	for (int i = 0; i < MAX_GROUPS && !replaced; i++) {
		if (groups[i] != old)
			continue;
		groups[i] = new;
		replaced = true;
	}
	pthread_mutex_unlock(&tables_lock);
	return replaced;
}

bool clinux_cleanup_add_group(pid_t group)
{
	bool added = groups_replace(0, group);

	wait_for_the_end_if_stopping();
	return added;
}

void clinux_cleanup_forget_group(pid_t group)
{
	groups_replace(group, 0);
}

/* A process that is killed may make one more thing before it is gone, such as the namespace that it was started for. */
static void group_end(pid_t group)
{
	const struct timespec interval = {.tv_nsec = 2000000};

	kill(-group, SIGKILL);
	for (int i = 0; i < 500 && waitpid(-group, NULL, WNOHANG) >= 0; i++)
		nanosleep(&interval, NULL);
}

/* Twice: another thread may have been about to add a group. */
static void groups_end(void)
{
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < MAX_GROUPS; i++) {
			if (groups[i] > 1)
				group_end(groups[i]);
		}
	}
}

/* Only async-signal-safe calls: kill, waitpid, nanosleep, umount2, unlink, rmdir. */
static void cleanup_run(void)
{
	stopping = 1;
	groups_end();
	for (int i = 0; i < MAX_PATHS; i++) {
		if (paths[i].used)
			clinux_delete_network_namespace(paths[i].path);
	}
	if (directory[0])
		rmdir(directory); /* refused while another process has a file in it */
}

static void cleanup_on_signal(int signal_number)
{
	cleanup_run();
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (signals[i] == signal_number)
			sigaction(signal_number, &earlier_actions[i], NULL);
	}
	raise(signal_number); /* blocked until this handler returns */
}

void clinux_cleanup_install(void)
{
	atexit(cleanup_run);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction action = {.sa_handler = cleanup_on_signal};
		sigaction(signals[i], NULL, &earlier_actions[i]);
		if (earlier_actions[i].sa_handler == SIG_IGN)
			continue;
		sigaction(signals[i], &action, NULL);
	}
}
