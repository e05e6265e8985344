#define _GNU_SOURCE
#include "sockets.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "CBench.h"

struct sockaddr_in ipv4_address(uint32_t address, uint16_t port)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = address};
}

uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int close_failed(int descriptor)
{
	int saved = errno;

	close(descriptor);
	errno = saved;
	return -1;
}

int send_message(int descriptor, const void *message)
{
	ssize_t sent = send(descriptor, message, CBENCH_MESSAGE_SIZE, MSG_NOSIGNAL);

	if (sent >= 0 && sent != CBENCH_MESSAGE_SIZE)
		errno = EMSGSIZE;
	return sent == CBENCH_MESSAGE_SIZE ? 0 : -1;
}

int cbench_filtered_socket(uint16_t port, int program)
{
	struct sockaddr_in address = ipv4_address(INADDR_ANY, port);
	int size = 4096;
	int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (descriptor < 0)
		return -1;
	if (setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)) != 0 ||
	    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) != 0 ||
	    bind(descriptor, (struct sockaddr *)&address, sizeof(address)) != 0)
		return close_failed(descriptor);
	return descriptor;
}

static void interrupted(int signal_number)
{
	(void)signal_number;
}

pthread_t cbench_interruptible_thread(void)
{
	struct sigaction action = {.sa_handler = interrupted};

	sigaction(SIGUSR1, &action, NULL);
	return pthread_self();
}

void cbench_interrupt(pthread_t thread)
{
	pthread_kill(thread, SIGUSR1);
}

int cbench_pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}
