#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "CBench.h"
#include "sockets.h"

enum { MAX_DESCRIPTORS = 16384, EVENTS = 64 };

struct cbench_server {
	int poll;
	int listener;
	int datagrams;
	bool closes;
	bool spins;
	int cpu;
	atomic_bool stopped;
	pthread_t thread;
	/* By descriptor: whether it is a connection of ours, and how much of a message it has brought. */
	struct {
		bool open;
		uint8_t received;
		char message[CBENCH_MESSAGE_SIZE];
	} connections[MAX_DESCRIPTORS];
};

static int watch(struct cbench_server *server, int descriptor)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};

	return epoll_ctl(server->poll, EPOLL_CTL_ADD, descriptor, &event);
}

static void connection_end(struct cbench_server *server, int descriptor)
{
	server->connections[descriptor].open = false;
	close(descriptor);
}

static void connections_accept(struct cbench_server *server)
{
	int descriptor;

	while ((descriptor = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (descriptor >= MAX_DESCRIPTORS || watch(server, descriptor) != 0) {
			close(descriptor);
			continue;
		}
		server->connections[descriptor].open = true;
		server->connections[descriptor].received = 0;
	}
}

static void datagrams_answer(struct cbench_server *server)
{
	char message[CBENCH_MESSAGE_SIZE];
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);
	ssize_t received;

	while ((received = recvfrom(server->datagrams, message, sizeof(message), 0, (struct sockaddr *)&peer, &size)) >= 0)
		sendto(server->datagrams, message, (size_t)received, 0, (struct sockaddr *)&peer, size);
}

static void connection_answer(struct cbench_server *server, int descriptor)
{
	char *message = server->connections[descriptor].message;
	uint8_t *received = &server->connections[descriptor].received;
	ssize_t count = recv(descriptor, message + *received, CBENCH_MESSAGE_SIZE - *received, 0);

	if (count < 0 && errno == EAGAIN)
		return;
	if (count <= 0) {
		connection_end(server, descriptor);
		return;
	}
	*received += (uint8_t)count;
	if (*received < CBENCH_MESSAGE_SIZE)
		return;
	*received = 0;
	if (send_message(descriptor, message) != 0 || server->closes)
		connection_end(server, descriptor);
}

static void *serve(void *argument)
{
	struct cbench_server *server = argument;
	struct epoll_event events[EVENTS];

	if (server->cpu != CBENCH_ANY_CPU)
		cbench_pin((unsigned int)server->cpu);
	while (!atomic_load_explicit(&server->stopped, memory_order_relaxed)) {
		int count = epoll_wait(server->poll, events, EVENTS, server->spins ? 0 : 20);

		for (int i = 0; i < count; i++) {
			int descriptor = events[i].data.fd;

			if (descriptor == server->listener)
				connections_accept(server);
			else if (descriptor == server->datagrams)
				datagrams_answer(server);
			else
				connection_answer(server, descriptor);
		}
	}
	return NULL;
}

static int bound_socket(int type, uint16_t port)
{
	struct sockaddr_in address = ipv4_address(INADDR_ANY, port);
	int yes = 1;
	int descriptor = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (descriptor < 0)
		return -1;
	setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(descriptor, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    (type == SOCK_STREAM && listen(descriptor, 4096) != 0))
		return close_failed(descriptor);
	return descriptor;
}

static void server_free(struct cbench_server *server)
{
	int saved = errno;

	for (int i = 0; i < MAX_DESCRIPTORS; i++)
		if (server->connections[i].open)
			close(i);
	if (server->listener >= 0)
		close(server->listener);
	if (server->datagrams >= 0)
		close(server->datagrams);
	if (server->poll >= 0)
		close(server->poll);
	free(server);
	errno = saved;
}

struct cbench_server *cbench_server_start(uint16_t port, bool closes, bool spins, int cpu)
{
	struct cbench_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->closes = closes;
	server->spins = spins;
	server->cpu = cpu;
	server->poll = epoll_create1(EPOLL_CLOEXEC);
	server->listener = bound_socket(SOCK_STREAM, port);
	server->datagrams = bound_socket(SOCK_DGRAM, port);
	if (server->poll >= 0 && server->listener >= 0 && server->datagrams >= 0 && watch(server, server->listener) == 0 &&
	    watch(server, server->datagrams) == 0) {
		errno = pthread_create(&server->thread, NULL, serve, server);
		if (errno == 0)
			return server;
	}
	server_free(server);
	return NULL;
}

void cbench_server_stop(struct cbench_server *server)
{
	atomic_store(&server->stopped, true);
	pthread_join(server->thread, NULL);
	server_free(server);
}
