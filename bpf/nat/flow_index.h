/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The hash index of the flow table: tuple → (flow, direction), lock-free.
 *
 * A tuple has three buckets to stand in, each one cache line, of which each knows whether the next is of any use. The first is
 * that of its client, as a rule, so that both tuples of a flow have the same (tuple_hash). An entry is one 64-bit word, so it
 * is claimed, read and removed by single atomic operations. Two CPUs that insert one tuple at once: each writes its entry, then
 * looks for another one like it; both operations are full barriers, so at least one of the two sees the other and takes its own
 * back. No tuple is ever in the index twice when an insert has returned INSERT_DONE. (docs/decisions/0002-flow-table.md) */
#ifndef FASTNAT_NAT_FLOW_INDEX_H
#define FASTNAT_NAT_FLOW_INDEX_H

#include "flow_record.h"

#define ENTRY_USED (1ULL << 31)
#define ENTRY_DIRECTION_SHIFT 30
#define ENTRY_GENERATION_SHIFT 24
#define ENTRY_GENERATION_MASK 0x3f
#define ENTRY_SLOT_MASK (MAX_FLOWS_LIMIT - 1)

/* Entries in its first bucket from which on a tuple has a choice (docs/decisions/0020-fewer-cache-lines.md). */
#define BUCKET_FILLING 4

enum insert_result {
	INSERT_DONE,
	INSERT_EXISTS,
	INSERT_FULL,
};

/* Where a tuple stands in the index, as numbers. */
struct flow_position {
	__u64 entry;
	__u32 bucket;
	__u32 place; /* in the bucket */
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

static __always_inline bool entry_has_generation(__u64 entry, __u32 generation)
{
	return !((entry >> ENTRY_GENERATION_SHIFT ^ generation) & ENTRY_GENERATION_MASK);
}

static __always_inline __u32 entry_slot(__u64 entry)
{
	return entry & ENTRY_SLOT_MASK;
}

static __always_inline struct flow *entry_flow(__u64 entry)
{
	return flow_at(entry_slot(entry));
}

static __always_inline bool flow_reference_holds(const struct flow_reference *reference)
{
	return READ_ONCE(*reference->position) == reference->entry;
}

__noinline __u64 flow_hash(const struct tuple *tuple)
{
	return tuple ? tuple_hash(tuple, layout.hash_keys) : 0;
}

static __always_inline __u32 bucket_first(__u64 hash)
{
	return (__u32)hash & layout.bucket_mask;
}

static __always_inline __u32 bucket_second(__u64 hash)
{
	return ((__u32)hash ^ (__u32)(hash >> 32) * 0x5bd1e995U) & layout.bucket_mask;
}

static __always_inline __u32 bucket_third(__u64 hash)
{
	return ((__u32)hash ^ (__u32)(hash >> 48) * 0x85ebca6bU) & layout.bucket_mask; /* other bits than the second */
}

static __always_inline struct flow_bucket *bucket_at(__u32 number)
{
	return bpf_map_lookup_elem(&flow_index, &number);
}

/* Has the first bucket of a tuple that is likely to be entered fetched while its CPU does other things. By a store: whatever
 * comes after a load that waits is done only as far as the CPU can look ahead. */
static __always_inline void flow_index_expect(__u64 hash)
{
	struct flow_bucket *bucket = bucket_at(bucket_first(hash));

	if (bucket)
		WRITE_ONCE(bucket->expected, 0);
}

/* A word of the bucket, in bounds for any `place`. */
static __always_inline __u64 *bucket_place(struct flow_bucket *bucket, __u32 place)
{
	return (__u64 *)bucket + (place & (BUCKET_WORDS - 1));
}

/* Finds `tuple` under an entry other than `except`. */
static __always_inline struct flow *bucket_find(struct flow_bucket *bucket, const struct tuple *tuple, __u64 hash, __u64 except,
						__u64 *found, __u32 *place)
{
	if (!bucket)
		return NULL;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < BUCKET_ENTRIES; i++) {
		__u64 entry = READ_ONCE(bucket->entries[i]);
		struct flow *flow;

		if ((entry ^ hash) >> 32 || !(entry & ENTRY_USED) || entry == except)
			continue;
		flow = entry_flow(entry);
		if (flow && flow_has_tuple(flow, entry_slot(entry), entry_direction(entry), tuple)) {
			*found = entry;
			*place = i;
			return flow;
		}
	}
	return NULL;
}

/* Whether the tuple is in this bucket, and where. */
static __always_inline bool bucket_locate(__u32 number, const struct tuple *tuple, __u64 hash, __u64 except,
					  struct flow_position *position)
{
	struct flow_bucket *bucket = bucket_at(number);

	position->bucket = number;
	return bucket_find(bucket, tuple, hash, except, &position->entry, &position->place);
}

/* Whether a tuple that is not in this bucket may be in its next. */
static __always_inline bool bucket_has_spilled(__u32 number)
{
	struct flow_bucket *bucket = bucket_at(number);

	return bucket && READ_ONCE(bucket->spilled);
}

/* 1: found. A function that the verifier checks once, for any caller; it cannot return pointers, hence the numbers. */
__noinline int flow_index_find(const struct tuple *tuple, __u64 hash, __u64 except, struct flow_position *position)
{
	if (!tuple || !position)
		return 0;
	return bucket_locate(bucket_first(hash), tuple, hash, except, position) ||
	       (bucket_has_spilled(bucket_first(hash)) && (bucket_locate(bucket_second(hash), tuple, hash, except, position) ||
							   (bucket_has_spilled(bucket_second(hash)) &&
							    bucket_locate(bucket_third(hash), tuple, hash, except, position))));
}

/* Whether a flow has `tuple`. */
__noinline int flow_exists(const struct tuple *tuple)
{
	struct flow_position position;

	return tuple && flow_index_find(tuple, flow_hash(tuple), 0, &position);
}

static __always_inline bool flow_find(const struct tuple *tuple, struct flow_reference *reference)
{
	struct flow_position position = {};
	struct flow_bucket *bucket;

	if (!flow_index_find(tuple, flow_hash(tuple), 0, &position))
		return false;
	bucket = bucket_at(position.bucket);
	reference->flow = entry_flow(position.entry);
	if (!bucket || !reference->flow)
		return false;
	reference->position = bucket_place(bucket, position.place);
	reference->entry = position.entry;
	return true;
}

/* The same, and quicker where the first bucket has the tuple under the only entry of its tag: nearly always. For attached
 * programs. The verifier goes through what follows once, not for each place. */
static __always_inline bool flow_find_fast(const struct tuple *tuple, __u64 hash, struct flow_reference *reference)
{
	struct flow_bucket *bucket = bucket_at(bucket_first(hash));
	__u32 place;

	if (!bucket)
		return false;
#pragma clang loop unroll(disable)
	for (place = 0; place < BUCKET_ENTRIES; place++) {
		reference->entry = READ_ONCE(bucket->entries[place]);
		if (!((reference->entry ^ (hash | ENTRY_USED)) >> 31))
			goto tagged;
	}
	return READ_ONCE(bucket->spilled) && flow_find(tuple, reference);
tagged:
	reference->position = bucket_place(bucket, verifier_forget(place, hash));
	reference->flow = entry_flow(reference->entry);
	if (reference->flow &&
	    flow_has_tuple(reference->flow, entry_slot(reference->entry), entry_direction(reference->entry), tuple))
		return true;
	return flow_find(tuple, reference);
}

static __always_inline __u32 entries_count(__u64 *entries, __u32 length)
{
	__u32 count = 0;

	for (__u32 i = 0; i < length; i++)
		count += READ_ONCE(entries[i]) >> 31 & 1; /* ENTRY_USED, without a branch for each */
	return count;
}

static __always_inline __u64 *entries_claim(__u64 *entries, __u32 length, __u64 entry)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < length; i++)
		if (!READ_ONCE(entries[i]) && !__sync_val_compare_and_swap(&entries[i], 0, entry))
			return &entries[i];
	return NULL;
}

/* Puts `other` in the place of `entry`; 0 removes it. false: it is not in the bucket. */
static __always_inline bool bucket_replace(struct flow_bucket *bucket, __u64 entry, __u64 other)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < BUCKET_ENTRIES; i++)
		if (READ_ONCE(bucket->entries[i]) == entry)
			return __sync_val_compare_and_swap(&bucket->entries[i], entry, other) == entry;
	return false;
}

static __always_inline bool bucket_remove(struct flow_bucket *bucket, __u64 entry)
{
	return bucket_replace(bucket, entry, 0);
}

/* Into the first `length` places of `next`, when it is not in `bucket`. In that order: who finds neither the entry nor that one
 * has spilled has looked before it was there. */
static __always_inline bool bucket_spill(struct flow_bucket *bucket, struct flow_bucket *next, __u32 length, __u64 entry)
{
	if (bucket == next)
		return false;
	__sync_fetch_and_add(&bucket->spilled, 1);
	if (entries_claim(next->entries, length, entry))
		return true;
	__sync_fetch_and_add(&bucket->spilled, -1);
	return false;
}

/* Where one client has so many flows, or so many come to one port from low ports, that the first bucket is of no use, the
 * second alone would be full now and then in a table that is not; or the second is the first. */
static __always_inline bool bucket_spill_twice(struct flow_bucket *first, struct flow_bucket *second, struct flow_bucket *third,
					       __u32 length, __u64 entry)
{
	if (first == third)
		return false;
	__sync_fetch_and_add(&first->spilled, 1);
	if (bucket_spill(second, third, length, entry))
		return true;
	__sync_fetch_and_add(&first->spilled, -1);
	return false;
}

/* Nearly always into the first bucket, so that a look-up seldom reads the second. Into the emptier one where the first begins
 * to fill up: that keeps both from being full (two choices). The last place of each of the three is for who finds no other one,
 * or else in a table that is nearly full a few tuples of millions would find none at all. 1: done. No part of
 * flow_index_insert, which is to have little stack of its own. */
__noinline int flow_index_enter(__u64 hash, __u64 entry)
{
	struct flow_bucket *first = bucket_at(bucket_first(hash)), *second = bucket_at(bucket_second(hash));
	struct flow_bucket *third = bucket_at(bucket_third(hash));
	__u32 count;

	if (!first || !second || !third)
		return 0;
	count = entries_count(first->entries, BUCKET_ENTRIES);
	if (count >= BUCKET_FILLING && entries_count(second->entries, BUCKET_ENTRIES) < count &&
	    bucket_spill(first, second, BUCKET_ENTRIES - 1, entry))
		return 1;
#pragma clang loop unroll(disable)
	for (__u32 length = BUCKET_ENTRIES - 1; length <= BUCKET_ENTRIES; length++)
		if (entries_claim(first->entries, length, entry) || bucket_spill(first, second, length, entry) ||
		    bucket_spill_twice(first, second, third, length, entry))
			return 1;
	return 0;
}

__noinline int flow_index_remove(__u64 hash, __u64 entry)
{
	struct flow_bucket *first = bucket_at(bucket_first(hash)), *second = bucket_at(bucket_second(hash));
	struct flow_bucket *third = bucket_at(bucket_third(hash));

	if (!first || !second || !third)
		return -1;
	if (bucket_remove(first, entry))
		return 0;
	if (!bucket_remove(second, entry)) {
		if (!bucket_remove(third, entry))
			return -1;
		__sync_fetch_and_add(&second->spilled, -1);
	}
	__sync_fetch_and_add(&first->spilled, -1);
	return 0;
}

/* Used entries of a bucket, and how many of all have the tag of `one`, plus how many that of `other`. */
struct bucket_survey {
	__u32 used;
	__u32 alike;
};

static __always_inline struct bucket_survey bucket_survey(struct flow_bucket *bucket, __u64 one, __u64 other)
{
	struct bucket_survey survey = {};

	for (__u32 i = 0; i < BUCKET_ENTRIES; i++) {
		__u64 entry = READ_ONCE(bucket->entries[i]);

		survey.used += entry >> 31 & 1;                    /* ENTRY_USED */
		survey.alike += (((entry ^ one) >> 32) - 1) >> 63; /* 1 where the tags are equal, without a branch */
		survey.alike += (((entry ^ other) >> 32) - 1) >> 63;
	}
	return survey;
}

/* Enters both tuples of a flow into the bucket that is the first of both, where that has room to spare and nothing that they
 * could be taken for; most flows are entered so. 1: they are in the index under no other entries. 0: nothing was entered. */
static __always_inline bool flow_index_enter_both(__u32 number, __u64 original, __u64 reply)
{
	struct flow_bucket *bucket = bucket_at(number);
	struct bucket_survey survey;

	if (!bucket || READ_ONCE(bucket->spilled))
		return 0;
	survey = bucket_survey(bucket, original, reply);
	if (survey.alike || survey.used + 2 > BUCKET_FILLING || !entries_claim(bucket->entries, BUCKET_ENTRIES, reply))
		return 0;
	if (entries_claim(bucket->entries, BUCKET_ENTRIES, original)) {
		if (bucket_survey(bucket, original, reply).alike == 2 && !READ_ONCE(bucket->spilled))
			return 1;
		bucket_remove(bucket, original);
	}
	bucket_remove(bucket, reply);
	return 0;
}

/* Whether an entry may go into the bucket without a further look: nothing there that it could be taken for, room to spare, and
 * nothing that has spilled. */
static __always_inline bool bucket_is_plain(struct flow_bucket *bucket, __u64 entry)
{
	struct bucket_survey survey = bucket_survey(bucket, entry, entry);

	return !survey.alike && survey.used < BUCKET_FILLING && !READ_ONCE(bucket->spilled);
}

/* Whether a tuple is in the index neither in its first bucket nor in another. False also where it would have to be looked for.
 */
static __always_inline bool flow_index_lacks(__u64 hash)
{
	struct flow_bucket *bucket = bucket_at(bucket_first(hash));

	return bucket && bucket_is_plain(bucket, hash);
}

/* Whether the entry that was just entered is the only one of its kind. */
static __always_inline bool bucket_holds_alone(struct flow_bucket *bucket, __u64 entry)
{
	return bucket_survey(bucket, entry, entry).alike == 2 && !READ_ONCE(bucket->spilled);
}

/* The same for a flow whose tuples have different first buckets. */
static __always_inline bool flow_index_enter_apart(__u64 original_hash, __u64 original, __u64 reply_hash, __u64 reply)
{
	struct flow_bucket *originals = bucket_at(bucket_first(original_hash)), *replies = bucket_at(bucket_first(reply_hash));

	if (!originals || !replies || !bucket_is_plain(replies, reply) || !bucket_is_plain(originals, original) ||
	    !entries_claim(replies->entries, BUCKET_ENTRIES, reply))
		return 0;
	if (entries_claim(originals->entries, BUCKET_ENTRIES, original)) {
		if (bucket_holds_alone(replies, reply) && bucket_holds_alone(originals, original))
			return 1;
		bucket_remove(originals, original);
	}
	bucket_remove(replies, reply);
	return 0;
}

/* Enters a tuple that is in the index under no other entry, as far as this CPU knows. */
__noinline int flow_index_insert(const struct tuple *tuple, __u64 hash, __u64 entry)
{
	struct flow_position other;

	if (!tuple || !flow_index_enter(hash, entry))
		return INSERT_FULL;
	if (flow_index_find(tuple, hash, entry, &other)) {
		flow_index_remove(hash, entry);
		return INSERT_EXISTS;
	}
	return INSERT_DONE;
}

#endif
