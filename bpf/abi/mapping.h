/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Port mappings: what the loader writes and the datapath reads. */
#ifndef FASTNAT_ABI_MAPPING_H
#define FASTNAT_ABI_MAPPING_H

#include "flow.h"

/* The first published port of a mapping. `address` all zero (::) or ::ffff:0.0.0.0 means any local address of the family. */
struct mapping_key {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

enum mapping_flag {
	MAPPING_RESTRICTED = 1 << 0,    /* only sources in mapping_sources may connect */
	MAPPING_SINGLE_TARGET = 1 << 1, /* every port of the range goes to target_port */
	MAPPING_LIMITED = 1 << 2,       /* its flows are limited (flow_limits) */
};

struct mapping {
	/* At a multiple of eight bytes, as values of maps begin: so programs copy it in two stores. */
	struct address target __attribute__((aligned(8)));
	__be16 port_end;    /* last published port; equal to the key's for a single port */
	__be16 target_port; /* of the first published port */
	__u32 id;           /* index into mapping_counters; the loader gives it out */
	__u32 flags;        /* enum mapping_flag */
	__u32 zero;
	/* What the target sees as the client where it cannot see the client itself, which is of another family: this host's
	 * address towards it, as the loader has seen it. */
	struct address client;
};

/* The mapping that a CPU has found last, for what destination, and what it has found out of those that came to it. */
struct mapping_note {
	struct mapping mapping __attribute__((aligned(8)));
	struct address destination __attribute__((aligned(8))); /* of the packet, as the next two */
	__be16 destination_port;
	__u8 protocol;
	__u8 any_address; /* 1: the mapping is one for any of the host's */
	__u16 first_port; /* of the mapping, host byte order */
	__u16 zero;
	__u32 version; /* settings.mappings_version from before it was looked up */
	__u32 noted;   /* CLOCK_MONOTONIC in units of 2^20 ns */
	/* Of the last packet to the destination that was for this host for certain; noted when the older of what says so was.
	 */
	struct arrival arrival;
	struct address_note client; /* the last that was not this host's */
};

/* Owner of port ranges: an address (or any) and a protocol. */
struct range_key {
	struct address address;
	__u8 protocol;
	__u8 zero[3];
};

/* The first ports of the ranges of one owner, one bit a port (host byte order, bit p % 64 of word p / 64), and which words
 * are not empty. The last set bit at or below a port is the one range that can hold it: ranges do not overlap. */
struct range_starts {
	__u64 summary[16];
	__u64 words[1024];
};

/* Key of mapping_sources (longest prefix match). prefix_length counts the 32 bits of mapping_id. */
struct source_key {
	__u32 prefix_length;
	__be32 mapping_id; /* big endian: the trie compares bytes from the first on */
	struct address source;
};

/* Whose a mapping or masquerade is: UTF-8, and zeros behind it. */
struct mapping_owner {
	__u8 text[MAX_OWNER_LENGTH];
};

/* Per CPU. flows of a mapping = opened - closed, summed over the CPUs. */
struct mapping_counters {
	__u64 packets; /* both directions */
	__u64 bytes;   /* IP packets with their headers */
	/* Atomic adds: a flow is also closed by programs that can be interrupted. */
	__u64 opened;
	__u64 closed;
};

_Static_assert(sizeof(struct mapping_key) == 20, "struct mapping_key");
_Static_assert(sizeof(struct mapping) == 48, "struct mapping");
_Static_assert(sizeof(struct range_key) == 20, "struct range_key");
_Static_assert(sizeof(struct source_key) == 24, "struct source_key");

#endif
