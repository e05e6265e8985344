#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "CBench.h"
#include "sockets.h"

/* Headers of Ethernet, IPv4 and UDP. */
enum { BURST = 16, PAYLOAD = BENCH_FRAME_SIZE - 42 };

static int connected_socket(uint32_t source, uint32_t address, uint16_t port)
{
	struct sockaddr_in from = ipv4_address(source, 0);
	struct sockaddr_in to = ipv4_address(address, port);
	int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (descriptor < 0)
		return -1;
	if (bind(descriptor, (struct sockaddr *)&from, sizeof(from)) != 0 ||
	    connect(descriptor, (struct sockaddr *)&to, sizeof(to)) != 0)
		return close_failed(descriptor);
	return descriptor;
}

static void wait_until(uint64_t time)
{
	struct timespec deadline = {.tv_sec = (time_t)(time / 1000000000u), .tv_nsec = (long)(time % 1000000000u)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL);
}

int cbench_datagrams(uint32_t source, uint32_t address, uint16_t port, unsigned int rate, uint64_t nanoseconds,
		     struct cbench_outcome *outcome)
{
	char payload[PAYLOAD] = {0};
	struct iovec data = {.iov_base = payload, .iov_len = sizeof(payload)};
	struct mmsghdr messages[BURST] = {0};
	int descriptor = connected_socket(source, address, port);
	uint64_t begin = now();
	int sent = 0;

	if (descriptor < 0)
		return -1;
	for (int i = 0; i < BURST; i++)
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &data, .msg_iovlen = 1};
	/* Each burst has its time, so one that was late does not delay those after it. */
	for (uint64_t burst = 0; sent >= 0 && burst * BURST * 1000000000u / rate < nanoseconds; burst++) {
		wait_until(begin + burst * BURST * 1000000000u / rate);
		sent = sendmmsg(descriptor, messages, BURST, 0);
		outcome->completed += sent > 0 ? (uint64_t)sent : 0;
	}
	outcome->nanoseconds = now() - begin;
	close_failed(descriptor);
	return sent < 0 ? -1 : 0;
}
