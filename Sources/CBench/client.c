#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "CBench.h"
#include "sockets.h"

enum { MAX_CONCURRENCY = 1024, EVENTS = 64, MAX_SAMPLES = 1 << 20 };

static const uint64_t answer_timeout = 1000000000; /* ns */
static const struct timeval connect_timeout = {.tv_sec = 3};

/* No message is like another, so an answer to an earlier one is not taken for the right one. */
static void message_fill(char *message, uint64_t number)
{
	for (unsigned int i = 0; i < CBENCH_MESSAGE_SIZE / sizeof(number); i++)
		memcpy(message + i * sizeof(number), &(uint64_t){number + i * 0x9e3779b97f4a7c15u}, sizeof(number));
}

/* --- many connections ---------------------------------------------------------------------------------------------------- */

struct connection {
	int descriptor; /* -1: none */
	bool asked;
	uint8_t received;
	char request[CBENCH_MESSAGE_SIZE];
	char answer[CBENCH_MESSAGE_SIZE];
};

struct load {
	int poll;
	struct sockaddr_in server;
	uint64_t number;
	struct cbench_outcome *outcome;
	struct connection connections[MAX_CONCURRENCY];
};

static int connection_begin(struct load *load, struct connection *connection)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
	int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (descriptor < 0)
		return -1;
	connection->descriptor = descriptor;
	connection->asked = false;
	connection->received = 0;
	message_fill(connection->request, load->number++);
	if (connect(descriptor, (struct sockaddr *)&load->server, sizeof(load->server)) != 0 && errno != EINPROGRESS)
		return -1;
	return epoll_ctl(load->poll, EPOLL_CTL_ADD, descriptor, &event);
}

static int connection_again(struct load *load, struct connection *connection, bool succeeded)
{
	*(succeeded ? &load->outcome->completed : &load->outcome->failed) += 1;
	close(connection->descriptor);
	connection->descriptor = -1;
	return connection_begin(load, connection);
}

/* Reads until the server's end of the connection, which is after the answer. */
static int connection_read(struct load *load, struct connection *connection)
{
	for (;;) {
		char rest;
		bool full = connection->received == CBENCH_MESSAGE_SIZE;
		ssize_t count = recv(connection->descriptor, full ? &rest : connection->answer + connection->received,
				     full ? 1 : (size_t)(CBENCH_MESSAGE_SIZE - connection->received), 0);

		if (count < 0 && errno == EAGAIN)
			return 0;
		if (count <= 0 || full)
			return connection_again(load, connection,
						count == 0 && full &&
							!memcmp(connection->request, connection->answer, CBENCH_MESSAGE_SIZE));
		connection->received += (uint8_t)count;
	}
}

static int connection_advance(struct load *load, struct connection *connection, uint32_t events)
{
	if (events & EPOLLERR)
		return connection_again(load, connection, false);
	if (!connection->asked && events & EPOLLOUT) {
		if (send_message(connection->descriptor, connection->request) != 0)
			return connection_again(load, connection, false);
		connection->asked = true;
	}
	return events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP) ? connection_read(load, connection) : 0;
}

static int load_run(struct load *load, unsigned int concurrency, uint64_t begin, uint64_t nanoseconds)
{
	struct epoll_event events[EVENTS];

	for (unsigned int i = 0; i < concurrency; i++)
		if (connection_begin(load, &load->connections[i]) != 0)
			return -1;
	while (now() - begin < nanoseconds) {
		int count = epoll_wait(load->poll, events, EVENTS, 20);

		if (count < 0 && errno != EINTR)
			return -1;
		for (int i = 0; i < count; i++)
			if (connection_advance(load, events[i].data.ptr, events[i].events) != 0)
				return -1;
	}
	return 0;
}

int cbench_connections(uint32_t address, uint16_t port, unsigned int concurrency, unsigned int cpu, uint64_t nanoseconds,
		       struct cbench_outcome *outcome)
{
	struct load *load = calloc(1, sizeof(*load));
	int result = -1, saved;
	cpu_set_t allowed;
	uint64_t begin;
	bool is_bound;

	if (!load)
		return -1;
	memset(outcome, 0, sizeof(*outcome));
	is_bound = !sched_getaffinity(0, sizeof(allowed), &allowed) && !cbench_pin(cpu);
	begin = now();
	load->server = ipv4_address(address, port);
	load->outcome = outcome;
	for (int i = 0; i < MAX_CONCURRENCY; i++)
		load->connections[i].descriptor = -1;
	load->poll = epoll_create1(EPOLL_CLOEXEC);
	if (load->poll >= 0)
		result = load_run(load, concurrency < MAX_CONCURRENCY ? concurrency : MAX_CONCURRENCY, begin, nanoseconds);
	outcome->nanoseconds = now() - begin;
	saved = errno;
	for (int i = 0; i < MAX_CONCURRENCY; i++)
		if (load->connections[i].descriptor >= 0)
			close(load->connections[i].descriptor);
	close(load->poll);
	free(load);
	if (is_bound)
		sched_setaffinity(0, sizeof(allowed), &allowed);
	errno = saved;
	return result;
}

/* --- one connection ------------------------------------------------------------------------------------------------------ */

/* Waits, without sleeping, for the whole answer. false: it did not come, or not the right one. */
static bool answer_receive(int descriptor, bool udp, const char *request, uint64_t begin)
{
	char answer[CBENCH_MESSAGE_SIZE];
	size_t received = 0;

	while (received < CBENCH_MESSAGE_SIZE) {
		ssize_t count = recv(descriptor, answer + received, CBENCH_MESSAGE_SIZE - received, MSG_DONTWAIT);

		if (count > 0)
			received += (size_t)count;
		else if (count == 0 || errno != EAGAIN || now() - begin > answer_timeout * (udp ? 1 : 5))
			return false;
		/* A late answer to an earlier datagram. */
		if (udp && received == CBENCH_MESSAGE_SIZE && memcmp(request, answer, CBENCH_MESSAGE_SIZE) != 0)
			received = 0;
	}
	return memcmp(request, answer, CBENCH_MESSAGE_SIZE) == 0;
}

static int compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static void percentiles_set(struct cbench_outcome *outcome, uint32_t *samples, size_t count)
{
	if (count == 0)
		return;
	qsort(samples, count, sizeof(*samples), compare);
	outcome->p50 = samples[count / 2];
	outcome->p99 = samples[count * 99 / 100];
	outcome->p999 = samples[count * 999 / 1000];
}

static int exchanges_run(int descriptor, bool udp, uint64_t nanoseconds, struct cbench_outcome *outcome, uint32_t *samples)
{
	char request[CBENCH_MESSAGE_SIZE];
	uint64_t begin = now(), last = begin;

	while (last - begin < nanoseconds && outcome->completed < MAX_SAMPLES) {
		message_fill(request, last);
		if (send_message(descriptor, request) != 0)
			return -1;
		if (!answer_receive(descriptor, udp, request, last)) {
			outcome->failed++;
			if (!udp)
				return 0;
			last = now();
			continue;
		}
		uint64_t end = now();
		samples[outcome->completed++] = end - last > UINT32_MAX ? UINT32_MAX : (uint32_t)(end - last);
		last = end;
	}
	outcome->nanoseconds = last - begin;
	return 0;
}

int cbench_exchanges(uint32_t address, uint16_t port, bool udp, uint64_t nanoseconds, struct cbench_outcome *outcome)
{
	struct sockaddr_in server = ipv4_address(address, port);
	int yes = 1, result = -1;
	uint32_t *samples = malloc(MAX_SAMPLES * sizeof(*samples));
	int descriptor = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	memset(outcome, 0, sizeof(*outcome));
	if (!udp)
		setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &connect_timeout, sizeof(connect_timeout));
	if (samples && descriptor >= 0 && connect(descriptor, (struct sockaddr *)&server, sizeof(server)) == 0)
		result = exchanges_run(descriptor, udp, nanoseconds, outcome, samples);
	if (result == 0)
		percentiles_set(outcome, samples, outcome->completed);
	close_failed(descriptor);
	free(samples);
	return result;
}
