/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* A flow: one record for both directions, found through one index entry for each. */
#ifndef FASTNAT_ABI_FLOW_H
#define FASTNAT_ABI_FLOW_H

#include <stddef.h>

#include "address.h"
#include "limits.h"

enum direction {
	DIRECTION_ORIGINAL = 0, /* client to published port */
	DIRECTION_REPLY = 1,    /* target to client */
};

enum flow_phase {
	FLOW_DEAD = 0,      /* free, being made or being deleted: nobody but its maker touches the record */
	FLOW_HALF_OPEN = 1, /* seen from one side (UDP), or its TCP handshake is not complete */
	FLOW_OPEN = 2,
	FLOW_CUT = 3, /* ended by command: what is sent on it ends the connection at both ends */
};

/* What one direction has carried so far: the low bits of its word. */
enum flow_seen {
	SEEN_SYN = 1 << 0,
	SEEN_ACK = 1 << 1,
	SEEN_FIN = 1 << 2,
	SEEN_RST = 1 << 3,
	SEEN_ANY = 1 << 4,
	SEEN_OPEN = 1 << 5, /* this direction knows that the flow is open and asks no more */
};

enum flow_flag {
	FLOW_HOST_PORT = 1 << 0,         /* its replies come to an address and port of this host, which no socket may have */
	FLOW_PATTERN = 1 << 1,           /* no flow but what others go by: the external port of a container's endpoint */
	FLOW_ACCEPTS_ANY = 1 << 2,       /* a pattern that lets in whoever sends to its external port */
	FLOW_OF_HOST = 1 << 3,           /* of a socket of this host: only its port changes, the stack carries it */
	FLOW_TRANSLATES = 1 << 4,        /* its sides are of different families */
	FLOW_COUNTED = 1 << 5,           /* it has a place among the flows of its mapping (nat/limit.h) */
	FLOW_COUNTED_BY_SOURCE = 1 << 6, /* and among those of its source */
	FLOW_TO_ENDPOINT = 1 << 7,       /* from a container to the external port of another one */
	FLOW_SHARES_HOP = 1 << 8,        /* what its client sends goes by the next hop of its mapping's target */
};

/* An address of the flow is IPv6: all stand in the slot after its own. No protocol that is translated has this bit. */
#define KIND_WIDE 0x40

/* Where things stand in the words of a flow's directions; bits 0 to 6 are enum flow_seen. */
enum flow_word {
	/* Its next hop is being written, also across a reuse of the slot: flow_make does not take such a one. */
	WORD_BUSY = 1 << 7,
	/* Of the original direction. */
	WORD_FLAGS_SHIFT = 8, /* enum flow_flag */
	/* Of the reply. */
	WORD_CREATED_SHIFT = 8, /* CLOCK_MONOTONIC in units of 2^30 ns */
};

enum next_hop_flag {
	NEXT_HOP_RESOLVED = 1 << 0, /* the MAC addresses are valid */
	NEXT_HOP_XDP = 1 << 1,      /* the output takes frames redirected from XDP */
	NEXT_HOP_PEER = 1 << 2,     /* the output's other end takes packets without its queue (peer_outputs) */
};

/* Of a difference of two times of 32 bits: from here on the first lies behind the second. */
#define UNITS_AHEAD 0xf0000000U

/* Where packets leave the host. Guarded by `sequence` (odd while it is written). */
struct next_hop {
	__u32 ifindex; /* 0 before the first packet */
	__u32 sequence;
	__u8 destination_mac[6]; /* as they stand in a frame, at a multiple of eight bytes */
	__u8 source_mac[6];
	__u16 mtu;   /* bytes, IP header and payload */
	__u16 flags; /* enum next_hop_flag */
} __attribute__((aligned(8)));

/* A next hop that flows share. Those of mappings' targets are for flows that go there under their client's own address. */
struct shared_hop {
	struct next_hop next_hop;
	__u32 refreshed; /* when it was last found: CLOCK_MONOTONIC in units of 2^20 ns */
	__u32 neighbour; /* when a packet went by the kernel's neighbour table last: CLOCK_MONOTONIC in units of 2^30 ns */
};

/* The way of packets from one address to another that come in by an interface. */
struct route_note {
	struct address source; /* both as the packets leave */
	struct address destination;
	__u32 ifindex;
	__u32 noted; /* CLOCK_MONOTONIC in units of 2^20 ns */
	__u32 hop;   /* in hops.shared */
	__u32 zero[5];
};

/* What was found out of an address, for packets that come in by one interface. */
struct address_note {
	struct address address;
	__u32 ifindex;
	__u32 noted; /* CLOCK_MONOTONIC in units of 2^20 ns */
};

/* The MAC address that packets for this host have come in with by an interface: what the device has told TC, and does not tell
 * XDP. */
struct arrival {
	__u32 ifindex;
	__u32 noted; /* CLOCK_MONOTONIC in units of 2^20 ns */
	__u8 mac[6];
	__u16 zero;
};

/* What one direction alone writes. */
struct flow_half {
	__u64 packets;
	__u64 bytes;     /* IP packets with their headers */
	__u32 last_seen; /* CLOCK_MONOTONIC in units of 2^20 ns, up to LAST_SEEN_GRANULARITY late */
	__u32 refreshed; /* when its next hop was last looked up: CLOCK_MONOTONIC in units of 2^20 ns */
	__u32 word;      /* enum flow_word */
	__u16 hop; /* in hops.shared, or 0; where the next hop is its mapping's, or not known yet: the MAC address that the
		      packets of the original direction arrive with, as the source of one */
	__u16 mapping_id;
};

/* Phase and generation change in one atomic operation, so that nobody ends or opens the next flow of a slot in place of the
 * one he means. Who turns the phase to FLOW_DEAD deletes the flow. */
struct flow_state {
	__u8 phase;       /* enum flow_phase */
	__u8 kind;        /* IPPROTO_TCP and so on, and KIND_WIDE: as long as the flow lives */
	__u16 generation; /* counts the uses of this slot */
} __attribute__((aligned(4)));

/* Both ends of one direction's packets as they arrive; of a wide flow the ports alone. */
struct ipv4_ends {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
};

/* What each direction writes, and between that what both read. Flows stand in pairs, their parts in turn: what one direction
 * writes is in no cache line with what the other reads, on another CPU. This is the first of a pair; the second begins one part
 * further. */
struct flow {
	struct flow_half original;
	__u64 other_original[4];        /* of the pair's other flow */
	struct ipv4_ends original_ends; /* of a dead flow, its source is the tick it died in: no packet writes there */
	struct ipv4_ends reply_ends;
	struct flow_state state;
	__u32 parent; /* slot of the pattern whose port it uses (nat/masquerade.h), or 2^32 - 1 */
	__u64 other_shared[4];
	struct flow_half reply;
};

#define FLOW_PART_BYTES 32

/* The flows of an even slot and the one after it: each part of both is one cache line. */
struct flow_pair {
	__u64 parts[6][FLOW_PART_BYTES / 8];
};

/* No flow's parent. */
#define ADDRESSES_MARK 0xfffffffeU

/* The slot after a wide flow's own: as a flow it is dead. */
struct flow_addresses {
	struct address original_source;
	struct address original_destination;
	__u64 other_original[4];
	__u32 zero[7];
	__u32 mark; /* ADDRESSES_MARK, where a flow has its parent */
	__u64 other_shared[4];
	struct address reply_source;
	struct address reply_destination;
};

/* A bucket of the index. An entry, host byte order: bits 63-32 hash tag, 31 used, 30 direction, 29-24 generation, 23-0 slot. */
struct flow_bucket {
	__u64 entries[BUCKET_ENTRIES];
	__u32 spilled;  /* tuples whose first bucket this is, and whose entries stand in their second or third */
	__u32 expected; /* written to have the line fetched (flow_index_expect), and never read */
};

/* Written by the datapath in one atomic operation. */
struct flow_counts {
	__u32 flows;
	__u32 half_open; /* of them */
} __attribute__((aligned(8)));

/* How many flows there are, and what the sweep has done. */
struct flow_gauges {
	struct flow_counts counts; /* wide flows twice */
	struct flow_counts wide;   /* once */
	__u64 sweep_steps;
	__u64 longest_sweep_step; /* ns */
};

_Static_assert(sizeof(struct next_hop) == 24, "struct next_hop");
_Static_assert(offsetof(struct next_hop, destination_mac) % 8 == 0, "macs_copy");
_Static_assert(offsetof(struct next_hop, source_mac) == offsetof(struct next_hop, destination_mac) + 6, "macs_copy");
_Static_assert(sizeof(struct route_note) == 64, "a note is one cache line");
_Static_assert(sizeof(struct shared_hop) == 32, "struct shared_hop");
_Static_assert(sizeof(struct flow_half) == 32, "struct flow_half");
_Static_assert(sizeof(struct flow_pair) == 192, "two flows are three cache lines");
_Static_assert(offsetof(struct flow, original_ends) == 2 * FLOW_PART_BYTES &&
		       offsetof(struct flow, reply) == 4 * FLOW_PART_BYTES &&
		       sizeof(struct flow) + FLOW_PART_BYTES == sizeof(struct flow_pair),
	       "parts of two flows take turns");
_Static_assert(sizeof(struct flow_addresses) == sizeof(struct flow), "one slot");
_Static_assert(offsetof(struct flow, state) >= offsetof(struct flow_addresses, zero) &&
		       offsetof(struct flow, reply) <= offsetof(struct flow_addresses, reply_source),
	       "addresses are no flow");
_Static_assert(sizeof(struct flow_bucket) == BUCKET_WORDS * sizeof(__u64), "a bucket is one cache line");

#endif
