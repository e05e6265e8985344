/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* How many flows a mapping or masquerade may have, all in all and of one source: what the loader writes. */
#ifndef FASTNAT_ABI_FLOW_LIMITS_H
#define FASTNAT_ABI_FLOW_LIMITS_H

#include <linux/types.h>

#include "limits.h"

/* So many new flows in so many seconds on average, and no more than that at once; 0 flows: any number. */
struct flow_rate {
	__u32 flows;
	__u32 seconds;
};

struct flow_limits {
	__u32 flows; /* that live; 0: any number */
	__u32 flows_per_source;
	struct flow_rate rate;
	struct flow_rate rate_per_source;
	__u32 salt; /* tells the sources of this mapping from those of an earlier one with its id */
	__u32 zero;
};

enum source_limit {
	/* Buckets of source_dues. */
	SOURCE_DUE_BUCKETS = 1 << 13,
	SOURCE_DUE_ENTRIES = 8,
	/* The most that a limit can say: the number of flows has 24 bits in an entry of source_counts. */
	FLOW_LIMIT_MAX = (1 << 24) - 1,
	FLOW_RATE_MAX = 1000000,
};

/* When a source has used up what its rate allowed so far: CLOCK_MONOTONIC, ns. In the past, it is as if there were no entry. */
struct source_due {
	__u64 source; /* hash of id, salt and address */
	__u64 due;
};

/* An entry of a source: bits 63-32 hash tag, 31 used, 23-0 flows. */
struct source_bucket {
	__u64 entries[BUCKET_WORDS];
};

struct source_due_bucket {
	struct source_due entries[SOURCE_DUE_ENTRIES];
};

_Static_assert(sizeof(struct flow_limits) == 32, "struct flow_limits");
_Static_assert(sizeof(struct source_due_bucket) == 128, "two cache lines");

#endif
