#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "CBench.h"
#include "sockets.h"

enum { LINE = 64, READS = 200000, TRIPS = 50000, TRIES = 5 };

struct line {
	struct line *next;
	char rest[LINE - sizeof(struct line *)];
};

/* One cycle through all lines in random order (Sattolo's algorithm). */
static void lines_link(struct line *lines, uint32_t *order, size_t count)
{
	uint64_t state = 88172645463325252u;

	for (size_t i = 0; i < count; i++)
		order[i] = (uint32_t)i;
	for (size_t i = count - 1; i > 0; i--) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		size_t other = state % i;
		uint32_t taken = order[i];

		order[i] = order[other];
		order[other] = taken;
	}
	for (size_t i = 0; i < count; i++)
		lines[order[i]].next = &lines[order[(i + 1) % count]];
}

double cbench_read_nanoseconds(size_t bytes)
{
	size_t count = bytes / LINE;
	struct line *lines = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t *order = malloc(count * sizeof(*order));
	double least = -1;

	if (lines != MAP_FAILED && order) {
		/* As BPF maps are. */
		madvise(lines, bytes, MADV_NOHUGEPAGE);
		lines_link(lines, order, count);
		const struct line *volatile at = lines;

		for (int try = 0; try < TRIES; try++) {
			uint64_t begin = now();
			const struct line *line = at;

			for (int i = 0; i < READS; i++)
				line = line->next;
			at = line;
			double taken = (double)(now() - begin) / READS;

			if (least < 0 || taken < least)
				least = taken;
		}
	}
	if (lines != MAP_FAILED)
		munmap(lines, bytes);
	free(order);
	return least;
}

struct rally {
	_Alignas(LINE) atomic_uint turn;
	unsigned int other_cpu;
};

static void *rally_return(void *argument)
{
	struct rally *rally = argument;

	cbench_pin(rally->other_cpu);
	for (unsigned int i = 0; i < TRIES * TRIPS; i++) {
		while (atomic_load_explicit(&rally->turn, memory_order_acquire) != 2 * i + 1)
			;
		atomic_store_explicit(&rally->turn, 2 * i + 2, memory_order_release);
	}
	return NULL;
}

/* The least of some tries, on the calling thread. */
static double rally_play(struct rally *rally)
{
	double least = -1;

	for (unsigned int i = 0, try = 0; try < TRIES; try++) {
		uint64_t begin = now();

		for (unsigned int trip = 0; trip < TRIPS; trip++, i++) {
			atomic_store_explicit(&rally->turn, 2 * i + 1, memory_order_release);
			while (atomic_load_explicit(&rally->turn, memory_order_acquire) != 2 * i + 2)
				;
		}
		double taken = (double)(now() - begin) / TRIPS;

		if (least < 0 || taken < least)
			least = taken;
	}
	return least;
}

double cbench_line_nanoseconds(unsigned int cpu, unsigned int other_cpu)
{
	struct rally rally = {.other_cpu = other_cpu};
	double least = -1;
	cpu_set_t allowed;
	pthread_t other;

	/* On one CPU, both would wait for each other's time slice. */
	if (sched_getaffinity(0, sizeof(allowed), &allowed) || cpu == other_cpu || !CPU_ISSET(cpu, &allowed) ||
	    !CPU_ISSET(other_cpu, &allowed))
		return -1;
	cbench_pin(cpu);
	if (!pthread_create(&other, NULL, rally_return, &rally)) {
		least = rally_play(&rally);
		pthread_join(other, NULL);
	}
	sched_setaffinity(0, sizeof(allowed), &allowed);
	return least;
}
