/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What time it is. A call of the kernel is a tenth of a known packet's time, and its coarse clock moves with its ticks alone:
 * so it is read once in a tick (docs/decisions/0025-fewer-calls.md). */
#ifndef FASTNAT_NAT_CLOCK_H
#define FASTNAT_NAT_CLOCK_H

#include "maps.h"

/* Where a CPU's last packets have found their flow (pipeline/lane.h). */
struct train {
	__u64 entry;  /* of the flow that the next packet is looked for in first; 0: it is looked up */
	__u32 bucket; /* where that stands in the index */
	__u32 place;
	__u64 last; /* of the last packet that was looked up */
};

/* After so many packets in a row that have begun a flow each, the next one on their side is taken for such a one. */
#define STREAK_EXPECTED 2

/* In a streak's place: the next packet is the one that has just been expected wrongly, and is to be looked for. */
#define STREAK_REFUTED 3

struct clock {
	__u64 tick; /* jiffies */
	__u64 now;  /* CLOCK_MONOTONIC at that, ns */
	/* By side: so many packets in a row have begun a flow, up to STREAK_EXPECTED, or STREAK_REFUTED. Here, where each
	 * packet looks. */
	__u32 streaks[SIDES_THAT_BEGIN];
	struct train train; /* at XDP */
};

/* One element. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct clock);
} clocks SEC(".maps");

/* CLOCK_MONOTONIC, ns, of the last tick, or of the one before where another CPU has just begun one. */
static __always_inline __u64 clock_now(struct clock *clock)
{
	__u64 tick = bpf_jiffies64(); /* no call: the verifier puts a load in its place */

	if (!clock)
		return bpf_ktime_get_coarse_ns();
	if (clock->tick != tick) {
		clock->now = bpf_ktime_get_coarse_ns();
		clock->tick = tick;
	}
	return clock->now;
}

static __always_inline __u64 time_now(void)
{
	return clock_now(map_only_element(&clocks));
}

#endif
