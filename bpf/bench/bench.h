/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What the benchmark's programs share with the process that runs them. Swift imports this file. */
#ifndef FASTNAT_BENCH_H
#define FASTNAT_BENCH_H

#include <linux/types.h>

/* Bytes of a generated frame, without the frame check sequence: what is called a 64-byte packet is 60 bytes to software. */
#define BENCH_FRAME_SIZE 60
/* A flow's number is this many bits of port, above a first one, and the rest in the address. */
#define BENCH_PORT_BITS 14
#define BENCH_FIRST_PORT 32768
/* New flows of each CPU have numbers of their own, one after another: so many, for 64 CPUs. */
#define BENCH_CPU_BITS 26

enum bench_direction {
	BENCH_TO_CONTAINER,
	BENCH_TO_CLIENT,
	BENCH_DIRECTIONS,
};

enum bench_order {
	BENCH_ORDER_RANDOM,  /* any of the flows */
	BENCH_ORDER_EACH,    /* one after the other */
	BENCH_ORDER_NEW,     /* never the same again: a client's ports one after the other, then the next client's */
	BENCH_ORDER_ANYBODY, /* never the same again: each of another client, from any port */
};

/* What a generator sends. */
struct bench_traffic {
	__u32 interface;     /* where to, by its index in the sender's namespace */
	__u32 flows;         /* at least 1 */
	__u32 order;         /* enum bench_order */
	__u32 first;         /* BENCH_ORDER_NEW, _ANYBODY: the first flow's number; _EACH: how many flows apart CPUs begin */
	__u32 first_address; /* of flow 0, host order: the client's side */
	__u32 padding;
	__u8 frame[BENCH_FRAME_SIZE + 4]; /* checksums and what makes a flow are left to the generator */
};

/* What a sink takes for right. All in network order. */
struct bench_expectation {
	__be32 source;
	__be32 source_mask;
	__be32 destination;
	__be32 destination_mask;
	__be16 source_port;      /* 0: any */
	__be16 destination_port; /* 0: any */
	__u8 ttl;
	__u8 checks; /* 1: checksums as well */
	__u16 padding;
};

/* What sinks have seen; of a drive, what the driven program did: redirect, or anything else. */
struct bench_count {
	__u64 arrived;
	__u64 wrong;
	__u64 generated; /* not of BENCH_ORDER_RANDOM */
	__u64 padding;
};

/* What the limits know. */
struct bench_limits {
	__u32 uplink; /* indices of interfaces in the host's namespace */
	__u32 container_side;
	__u32 bucket_mask; /* sizes of lookup_index and lookup_records, powers of two, less one */
	__u32 record_mask;
};

/* The least that a table of flows is made of: what fastnat's has, without what is in it (bpf/abi/flow.h). */
struct bench_bucket {
	__u64 entries[8]; /* bits 63-32 the number of a flow, 31 used, 30-0 its record */
};

/* What a direction becomes, and what it has carried. */
struct bench_half {
	__u64 packets;
	__u64 bytes;
	__be32 address; /* of the destination, or towards the client, of the source */
	__be16 port;
	__u16 address_delta; /* of checksums, as RFC 1624 adds them up */
	__u16 port_delta;
	__u16 zero[3];
};
struct bench_record {
	struct bench_half original;
	__u64 number[4]; /* of the flow */
	struct bench_half reply;
};

#endif
