/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What time it is. A call of the kernel is a tenth of a known packet's time, and its coarse clock moves with its ticks alone:
 * so it is read once in a tick (docs/decisions/0025-fewer-calls.md). */
#ifndef FASTNAT_NAT_CLOCK_H
#define FASTNAT_NAT_CLOCK_H

#include "maps.h"

/* What a CPU's last packets at a hook and side were of, and what becomes of more of them (pipeline/train.h). What stands in
 * packets is in their byte order. */
struct train {
	__u64 last;  /* index entry of the last packet that was looked up */
	__u64 until; /* the tick (jiffies) from which on nothing below holds any more */
	/* Whose packets they are: */
	__be32 addresses[2] __attribute__((aligned(8))); /* source, destination */
	__be16 ports[2] __attribute__((aligned(4)));
	__u32 protocol;   /* TRAIN_PROTOCOL_MASK */
	__u8 arrival[8];  /* the MAC address that they come to, and two bytes of no meaning */
	__u64 pseudo_sum; /* of their pseudo headers but for the length */
	/* Where their flow is, and what stands in their half of it as long as they may go on like this: */
	__u64 entry;
	__u32 bucket;
	__u32 place;
	__u64 state; /* word, hop and mapping */
	__u32 refreshed;
	/* The same of their next hop: */
	__u32 hop; /* its place in `hops`, in bytes */
	__u32 ifindex;
	__u32 sequence;
	/* What they get: */
	__u8 macs[12];
	__u32 mtu; /* bytes of the longest */
	__be32 new_addresses[2] __attribute__((aligned(8)));
	__be16 new_ports[2] __attribute__((aligned(4)));
	__u32 network_delta; /* checksum_apply; with the TTL */
	__u32 transport_delta;
	__u32 flags; /* enum next_hop_flag */
};

/* By side at TC. Those of XDP stand where the host's own packets would, which have none. */
#define TRAINS (SIDE_PORT + 1)
#define TRAIN_AT_XDP SIDE_HOST

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
	struct train trains[TRAINS];
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
