/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What is remembered of datagrams that come in fragments (docs/decisions/0012-fragments.md). */
#ifndef FASTNAT_ABI_FRAGMENT_H
#define FASTNAT_ABI_FRAGMENT_H

#include "address.h"

/* What fragments of one datagram have in common (RFC 791, 3.2; RFC 8200, 4.5), and from which side of the host they come. */
struct fragment_key {
	struct address source;
	struct address destination;
	__be32 identification; /* IPv4: 16 bits */
	__u8 protocol;         /* as the fragment says */
	__u8 side;             /* enum side */
	__u8 zero[2];
};

/* What the first fragment told: later ones have no ports. */
struct fragment_note {
	__u64 noted; /* CLOCK_MONOTONIC, ns */
	__be16 source_port;
	__be16 destination_port;
	__u32 is_foreign; /* the datagram is the stack's */
};

enum fragment_limit {
	FRAGMENT_NOTES = 1 << 14,
	/* Fragments that wait for their first, all in all and of one datagram. 64 fill 64 KiB over an MTU of 1,280. */
	FRAGMENT_SLOTS = 1 << 10,
	FRAGMENT_QUEUE_SLOTS = 64,
	/* In fragment_queue.count: the first has come, the queue takes no more. */
	FRAGMENT_QUEUE_CLOSED = 1 << 30,
	/* Of a frame that waits: an Ethernet MTU, with room to spare. */
	FRAGMENT_SLOT_BYTES = 2000,
};

/* The fragments of one datagram that wait for its first. */
struct fragment_queue {
	__u64 begun; /* CLOCK_MONOTONIC, ns */
	__u32 count; /* of slots given out; may run beyond FRAGMENT_QUEUE_SLOTS */
	__u16 slots[FRAGMENT_QUEUE_SLOTS];
	__u32 zero;
};

enum fragment_slot_state {
	FRAGMENT_SLOT_FREE,
	FRAGMENT_SLOT_BUSY, /* whoever made it so reads or writes the slot */
	FRAGMENT_SLOT_FILLED,
};

/* A fragment that waits for its first: the frame as it came. */
struct fragment_slot {
	struct fragment_key key;
	__u32 state;  /* enum fragment_slot_state; changed by compare-and-exchange */
	__u32 length; /* bytes of the frame */
	__u8 frame[FRAGMENT_SLOT_BYTES];
};

_Static_assert(sizeof(struct fragment_key) == 40, "struct fragment_key is compared as five 64-bit words");
_Static_assert(sizeof(struct fragment_note) == 16, "struct fragment_note");
_Static_assert(sizeof(struct fragment_queue) == 144, "struct fragment_queue");
_Static_assert(sizeof(struct fragment_slot) == 2048, "struct fragment_slot");

#endif
