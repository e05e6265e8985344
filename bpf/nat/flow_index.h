/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The hash index of the flow table: tuple → (flow, direction), lock-free.
 *
 * A tuple has two buckets to stand in, each one cache line. An entry is one 64-bit word, so it is claimed, read and removed
 * by single atomic operations. Two CPUs that insert one tuple at once: each writes its entry, then looks for another one
 * like it; both operations are full barriers, so at least one of the two sees the other and takes its own back. No tuple
 * is ever in the index twice when an insert has returned INSERT_DONE. (docs/decisions/0002-flow-table.md) */
#ifndef FASTNAT_NAT_FLOW_INDEX_H
#define FASTNAT_NAT_FLOW_INDEX_H

#include "maps.h"

#define ENTRY_USED (1ULL << 31)
#define ENTRY_DIRECTION_SHIFT 30
#define ENTRY_GENERATION_SHIFT 24
#define ENTRY_GENERATION_MASK 0x3f
#define ENTRY_SLOT_MASK (MAX_FLOWS_LIMIT - 1)

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

enum insert_result {
	INSERT_DONE,
	INSERT_EXISTS,
	INSERT_FULL,
};

/* A flow as found: whoever has used it checks with flow_reference_holds that it was the same all along. */
struct flow_reference {
	struct flow *flow;
	__u64 *position; /* in the index */
	__u64 entry;
};

static __always_inline __u64 entry_make(__u64 hash, __u32 slot, enum direction direction, __u32 generation)
{
	return (hash & 0xffffffff00000000ULL) | ENTRY_USED | (__u64)direction << ENTRY_DIRECTION_SHIFT |
	       (__u64)(generation & ENTRY_GENERATION_MASK) << ENTRY_GENERATION_SHIFT | slot;
}

static __always_inline enum direction entry_direction(__u64 entry)
{
	return entry >> ENTRY_DIRECTION_SHIFT & 1;
}

static __always_inline struct flow *entry_flow(__u64 entry)
{
	__u32 slot = entry & ENTRY_SLOT_MASK;

	return bpf_map_lookup_elem(&flows, &slot);
}

static __always_inline struct flow_half *flow_half(struct flow *flow, enum direction direction)
{
	return direction == DIRECTION_REPLY ? &flow->reply : &flow->original;
}

static __always_inline bool flow_reference_holds(const struct flow_reference *reference)
{
	return READ_ONCE(*reference->position) == reference->entry;
}

static __always_inline struct flow_bucket *bucket_first(__u64 hash)
{
	__u32 number = (__u32)hash & layout.bucket_mask;

	return bpf_map_lookup_elem(&flow_index, &number);
}

static __always_inline struct flow_bucket *bucket_second(__u64 hash)
{
	__u32 number = ((__u32)hash ^ (__u32)(hash >> 32) * 0x5bd1e995U) & layout.bucket_mask;

	return bpf_map_lookup_elem(&flow_index, &number);
}

/* Hides from the verifier which of the eight it was: otherwise it follows each of them through the whole program. */
static __always_inline __u32 bucket_position(__u32 i)
{
	asm volatile("" : "+r"(i));
	return i & (BUCKET_ENTRIES - 1);
}

/* Finds `tuple` under an entry other than `except`. */
static __always_inline bool bucket_find(struct flow_bucket *bucket, const struct tuple *tuple, __u64 hash, __u64 except,
					struct flow_reference *reference)
{
	struct flow *flow;
	__u64 entry;
	__u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < BUCKET_ENTRIES; i++) {
		entry = READ_ONCE(bucket->entries[i]);
		if ((entry ^ hash) >> 32 || !(entry & ENTRY_USED) || entry == except)
			continue;
		flow = entry_flow(entry);
		if (flow && tuple_equal(&flow_half(flow, entry_direction(entry))->tuple, tuple))
			break;
	}
	if (i >= BUCKET_ENTRIES)
		return false;
	reference->flow = flow;
	reference->position = &bucket->entries[bucket_position(i)];
	reference->entry = entry;
	return true;
}

static __always_inline bool flow_find_except(const struct tuple *tuple, __u64 hash, __u64 except,
					     struct flow_reference *reference)
{
	struct flow_bucket *bucket = bucket_first(hash);

	if (bucket && bucket_find(bucket, tuple, hash, except, reference))
		return true;
	bucket = bucket_second(hash);
	return bucket && bucket_find(bucket, tuple, hash, except, reference);
}

static __always_inline bool flow_find(const struct tuple *tuple, struct flow_reference *reference)
{
	return flow_find_except(tuple, tuple_hash(tuple, layout.hash_seed), 0, reference);
}

static __always_inline __u32 bucket_count(struct flow_bucket *bucket)
{
	__u32 count = 0;

	for (int i = 0; i < BUCKET_ENTRIES; i++)
		count += READ_ONCE(bucket->entries[i]) >> 31 & 1; /* ENTRY_USED, without a branch for each */
	return count;
}

static __always_inline __u64 *bucket_claim(struct flow_bucket *bucket, __u64 entry)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < BUCKET_ENTRIES; i++)
		if (!READ_ONCE(bucket->entries[i]) && !__sync_val_compare_and_swap(&bucket->entries[i], 0, entry))
			return &bucket->entries[bucket_position(i)];
	return NULL;
}

static __always_inline bool bucket_remove(struct flow_bucket *bucket, __u64 entry)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < BUCKET_ENTRIES; i++)
		if (READ_ONCE(bucket->entries[i]) == entry)
			return __sync_val_compare_and_swap(&bucket->entries[i], entry, 0) == entry;
	return false;
}

static __always_inline int flow_index_remove(__u64 hash, __u64 entry)
{
	struct flow_bucket *bucket = bucket_first(hash);

	if (bucket && bucket_remove(bucket, entry))
		return 0;
	bucket = bucket_second(hash);
	return bucket && bucket_remove(bucket, entry) ? 0 : -1;
}

__noinline int flow_index_insert(const struct tuple *tuple, __u64 hash, __u64 entry)
{
	struct flow_bucket *first = bucket_first(hash), *second = bucket_second(hash);
	struct flow_reference other;
	__u64 *position;

	if (!tuple || !first || !second)
		return INSERT_FULL;
	if (flow_find_except(tuple, hash, entry, &other))
		return INSERT_EXISTS;
	/* The emptier bucket: that is what keeps both from filling up (two choices). */
	if (bucket_count(second) < bucket_count(first)) {
		struct flow_bucket *swap = first;

		first = second;
		second = swap;
	}
	position = bucket_claim(first, entry) ?: bucket_claim(second, entry);
	if (!position)
		return INSERT_FULL;
	if (flow_find_except(tuple, hash, entry, &other)) {
		__sync_val_compare_and_swap(position, entry, 0);
		return INSERT_EXISTS;
	}
	return INSERT_DONE;
}

#endif
