/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Masquerading: what the loader writes and the datapath reads. */
#ifndef FASTNAT_ABI_MASQUERADE_H
#define FASTNAT_ABI_MASQUERADE_H

#include "address.h"

/* Key of `masquerades` (longest prefix match): the network of the containers. */
struct masquerade_key {
	__u32 prefix_length; /* of the address as written here: 96 more than an IPv4 prefix has */
	struct address source;
};

enum masquerade_flag {
	/* The source is the address that the kernel would send from; `address` only where it cannot tell (before Linux 6.7). */
	MASQUERADE_FOLLOWS = 1 << 0,
	MASQUERADE_HAS_EXEMPTIONS = 1 << 1,
	MASQUERADE_ENDPOINT_INDEPENDENT =
		1 << 2,                 /* one external port for one source, whatever its destinations (RFC 4787, REQ-1) */
	MASQUERADE_ACCEPT_ANY = 1 << 3, /* and whoever sends to it comes in (endpoint-independent filtering) */
	MASQUERADE_ACCEPT_CONTACTED = 1 << 4, /* or whatever address it has sent to (address-dependent filtering) */
	MASQUERADE_LIMITED = 1 << 5,          /* its flows are limited (flow_limits) */
};

struct masquerade {
	struct address address; /* of the family of the network; unspecified where there is none */
	__u32 uplink;           /* ifindex; packets that leave by another interface are left alone */
	__u32 id;               /* index into mapping_counters, MAX_MAPPINGS or more */
	__u32 flags;            /* enum masquerade_flag */
	__u16 first_port;       /* host byte order, as last_port */
	__u16 last_port;
};

/* What was found out of packets from one address to another that come in by an interface: the rule that holds for them, and how
 * they leave. Not of rules that are endpoint-independent. */
struct masquerade_note {
	struct address source; /* both as the packets arrive */
	struct address destination;
	__u32 ifindex;
	__u32 noted;   /* CLOCK_MONOTONIC in units of 2^20 ns */
	__u32 version; /* mappings_version that it was found under */
	__u32 zero;
	struct masquerade rule; /* its address is the one that they leave with */
};

/* Key of masquerade_exemptions (longest prefix match). prefix_length counts the 32 bits of `id`. */
struct exemption_key {
	__u32 prefix_length;
	__be32 id; /* big endian: the trie compares bytes from the first on */
	struct address destination;
};

_Static_assert(sizeof(struct masquerade_key) == 20, "struct masquerade_key");
_Static_assert(sizeof(struct masquerade) == 32, "struct masquerade");
_Static_assert(sizeof(struct masquerade_note) == 80, "struct masquerade_note");
_Static_assert(sizeof(struct exemption_key) == 24, "struct exemption_key");

#endif
