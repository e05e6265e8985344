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

/* What one direction has carried so far (struct flow_half.seen). */
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
};

enum next_hop_flag {
	NEXT_HOP_RESOLVED = 1 << 0, /* the MAC addresses are valid */
	NEXT_HOP_XDP = 1 << 1,      /* the output takes frames redirected from XDP */
	NEXT_HOP_SHARED = 1 << 2,   /* of a flow's half: not here, but that of the mapping's target */
	NEXT_HOP_PEER = 1 << 3,     /* the output's other end takes packets without its queue (peer_outputs) */
	/* Bits 8-15: when a packet went by the kernel's neighbour table last, CLOCK_MONOTONIC in units of 2^30 ns. */
	NEXT_HOP_NEIGHBOUR_SHIFT = 8,
};

/* Where packets of one direction leave the host. Guarded by `sequence` (odd while it is written). */
struct next_hop {
	__u32 ifindex; /* 0 before the first packet */
	__u32 sequence;
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u16 mtu;   /* bytes, IP header and payload */
	__u16 flags; /* enum next_hop_flag */
};

/* Where the packets to the target of a mapping leave, for all flows that go there under their client's own address. */
struct target_hop {
	struct next_hop next_hop;
	__u32 refreshed; /* as in struct flow_half */
	__u32 zero;
};

/* The way of packets from one address to another that come in by an interface. */
struct route_note {
	struct address source; /* both as the packets leave */
	struct address destination;
	__u32 ifindex;
	__u32 noted; /* CLOCK_MONOTONIC in units of 2^20 ns */
	struct next_hop next_hop;
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

/* One direction. The first 64 bytes are read by both directions and seldom written; the rest is written by this direction
 * alone, so that two CPUs that carry one direction each share no written cache line. */
struct flow_half {
	struct tuple tuple;       /* of the packets of this direction as they arrive */
	struct next_hop next_hop; /* NEXT_HOP_SHARED: source_mac is what the packets of this direction arrive with */
	__u64 last_seen;          /* CLOCK_MONOTONIC, ns, up to LAST_SEEN_GRANULARITY late */
	__u64 packets;
	__u64 bytes;     /* IP packets with their headers */
	__u32 refreshed; /* when the next hop was last looked up: CLOCK_MONOTONIC in units of 2^20 ns */
	__u32 seen;      /* enum flow_seen */
	__u32 mapping_id;
	__u16 address_delta; /* one's complement sum to add to a checksum for the changed addresses */
	__u16 port_delta;    /* the same for the changed ports */
};

/* Phase and generation change in one atomic operation, so that nobody ends or opens the next flow of a slot in place of the
 * one he means. Who turns the phase to FLOW_DEAD deletes the flow. */
struct flow_state {
	__u32 phase;      /* enum flow_phase */
	__u32 generation; /* counts the uses of this slot */
} __attribute__((aligned(8)));

/* What an IPv4 packet of a half becomes: the other half's tuple, reversed. A packet needs no line of the other half then. */
struct ipv4_ends {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
};

/* Each half and its ends are two cache lines next to each other, which is all that a packet with a fresh next hop touches. */
struct flow {
	struct flow_half original;
	struct ipv4_ends original_becomes; /* of an IPv6 packet: zero */
	__u32 flags;                       /* enum flow_flag */
	struct flow_state state;
	struct flow_half reply;
	struct ipv4_ends reply_becomes;
	__u32 parent;  /* slot of the pattern whose port it uses (nat/masquerade.h), or 2^32 - 1 */
	__u32 created; /* CLOCK_MONOTONIC in units of 2^26 ns */
	__u32 zero;
};

/* A bucket of the index. An entry, host byte order: bits 63-32 hash tag, 31 used, 30 direction, 29-24 generation, 23-0 slot. */
struct flow_bucket {
	__u64 entries[BUCKET_ENTRIES];
	__u64 spilled; /* tuples whose first bucket this is, and whose entries stand in their second or third */
};

/* Written by the datapath in one atomic operation. */
struct flow_counts {
	__u32 flows;
	__u32 half_open; /* of them */
} __attribute__((aligned(8)));

/* How many flows there are, and what the sweep has done. */
struct flow_gauges {
	struct flow_counts counts;
	__u64 sweep_steps;
	__u64 longest_sweep_step; /* ns */
};

_Static_assert(sizeof(struct next_hop) == 24, "struct tuple and struct next_hop fill one cache line");
_Static_assert(sizeof(struct route_note) == 64, "a note is one cache line");
_Static_assert(sizeof(struct target_hop) == 32, "struct target_hop");
_Static_assert(sizeof(struct flow_half) == 104, "struct flow_half");
_Static_assert(sizeof(struct flow) == 256, "a flow is four cache lines");
_Static_assert(offsetof(struct flow, reply) == 128, "a direction is two of them");
_Static_assert(sizeof(struct flow_bucket) == BUCKET_WORDS * sizeof(__u64), "a bucket is one cache line");

#endif
