/*
 * The benchmark's C: its compiled programs (bpf/bench), and the two ends of its TCP and UDP loads, where a microsecond of
 * overhead would be in the figures. Functions that can fail return -1, or NULL, with errno set.
 */
#ifndef CBENCH_H
#define CBENCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench.h"

/* The ELF object with the benchmark's programs; `size` is set to its bytes. Static storage. */
const void *cbench_object(size_t *size);

/* Where a thread is not to keep to one CPU. */
enum { CBENCH_ANY_CPU = -1 };

/* Bytes of a request and of its response. */
enum { CBENCH_MESSAGE_SIZE = 64 };

/* A server that answers each message with itself, over TCP and UDP, on a thread of its own. */
struct cbench_server;

/* Listens on `port` of any IPv4 address of the calling thread's network namespace. `closes`: TCP connections are closed after
 * one answer. `spins`: it never sleeps, so that no wake-up is in a latency. `cpu`: its thread keeps to that, where there is
 * such a one; CBENCH_ANY_CPU: to none. */
struct cbench_server *cbench_server_start(uint16_t port, bool closes, bool spins, int cpu);
void cbench_server_stop(struct cbench_server *server);

/* What a load measured. */
struct cbench_outcome {
	uint64_t completed;   /* exchanges with the right answer */
	uint64_t failed;      /* others: refused, reset, wrong answer, or (UDP) none within 1 s */
	uint64_t nanoseconds; /* how long it took */
	uint64_t p50;         /* percentiles of an exchange, ns; of exchanges over one connection alone */
	uint64_t p99;
	uint64_t p999;
};

/* Connects, asks, gets the answer, closes; `concurrency` (at most 1024) connections at once, for so long. `address` is in
 * network order. The calling thread keeps to `cpu` meanwhile, where there is such a one. */
int cbench_connections(uint32_t address, uint16_t port, unsigned int concurrency, unsigned int cpu, uint64_t nanoseconds,
		       struct cbench_outcome *outcome);

/* Asks over one connection (or one UDP socket) again and again, never sleeping. */
int cbench_exchanges(uint32_t address, uint16_t port, bool udp, uint64_t nanoseconds, struct cbench_outcome *outcome);

/* Sends UDP datagrams of the size of generated frames, `rate` in a second in bursts of 16, and waits for no answer.
 * `completed` are those sent. Addresses are in network order; `source` is one of the calling thread's namespace. */
int cbench_datagrams(uint32_t source, uint32_t address, uint16_t port, unsigned int rate, uint64_t nanoseconds,
		     struct cbench_outcome *outcome);

/* A UDP socket on `port` with a socket filter program, and a small receive buffer. */
int cbench_filtered_socket(uint16_t port, int program);

/* Makes system calls of the calling thread return (EINTR) when `cbench_interrupt` is called for it. */
pthread_t cbench_interruptible_thread(void);
void cbench_interrupt(pthread_t thread);

/* Keeps the calling thread on one CPU. */
int cbench_pin(unsigned int cpu);

/* The time of a read whose address the read before it says, anywhere in so many bytes (a multiple of 64) on pages of the usual
 * size; ns, the least of some tries; -1 where there is no memory for it. */
double cbench_read_nanoseconds(size_t bytes);

/* How long a cache line takes from one CPU to another and back: what it costs to write what another CPU has written. ns, the
 * least of some tries; -1 where this process may not use both. */
double cbench_line_nanoseconds(unsigned int cpu, unsigned int other_cpu);

#endif
