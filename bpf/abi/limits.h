/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Sizes that the kernel programs and the loader share. */
#ifndef FASTNAT_ABI_LIMITS_H
#define FASTNAT_ABI_LIMITS_H

#include <linux/types.h>

enum limit {
	/* Layout version of everything in abi/. A loader reuses pinned maps only when it is equal. */
	ABI_VERSION = 26,
	/* A flow's slot is a 24-bit number in an index entry. */
	MAX_FLOWS_LIMIT = 1 << 24,
	DEFAULT_MAX_FLOWS = 1 << 18,
	/* The loader gives half-open flows a quarter of the table. */
	HALF_OPEN_SHARE = 4,
	MAX_MAPPINGS = 1 << 14,
	/* The mapping of a flow that has none. */
	MAPPING_NONE = 0xffff,
	MAX_MASQUERADES = 1 << 10,
	MAX_EXEMPTIONS = 1 << 14,
	HASH_KEYS = 6, /* of 64 bits */
	HOST_ADDRESSES = 64,
	CLIENT_ADDRESSES = 256,
	ARRIVALS = 16,
	PORT_NOTES = 8,
	/* Next hops that flows share, of which as many of one hash. */
	MAX_NEXT_HOPS = 1 << 14,
	NEXT_HOP_WAYS = 4,
	ROUTE_NOTES = 256,
	MASQUERADE_NOTES = 256,
	MAX_RANGE_OWNERS = 1 << 10,
	MAX_ALLOWED_PREFIXES = 1 << 16,
	/* Bytes of the text that says whose a mapping or masquerade is. */
	MAX_OWNER_LENGTH = 256,
	MAX_XDP_OUTPUTS = 1 << 12,
	MAX_PEER_OUTPUTS = 1 << 12,
	MAX_BRIDGE_PORTS = 1 << 12,
	/* Words of a bucket: eight of 8 bytes fill one cache line. */
	BUCKET_WORDS = 8,
	/* Entries of one index bucket. */
	BUCKET_ENTRIES = 7,
	/* Flow slots of one word of the allocation bitmap. */
	SLOTS_PER_WORD = 64,
};

#endif
