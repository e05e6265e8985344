/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Limits on the flows of a mapping or masquerade: how many live, and how many begin, all in all and of one source. Asked when a
 * flow is begun; a flow gives back its places when its connection is closed, or when it ends, whatever ends it
 * (docs/decisions/0014-limits.md). */
#ifndef FASTNAT_NAT_LIMIT_H
#define FASTNAT_NAT_LIMIT_H

#include "flow_index.h"

#define NS_PER_SECOND (1000 * 1000 * 1000ULL)

/* Each failed try means that another CPU has changed the same word. */
#define LIMIT_TRIES 8

/* An entry of source_counts, host byte order: bits 63-32 hash tag, 31 used (ENTRY_USED), 23-0 flows. */
#define SOURCE_COUNT_MASK FLOW_LIMIT_MAX

/* What counts as one source: an address; of a client over IPv6, its network of 64 bits, of which it can take any address. A
 * container's address is its own. */
static __always_inline __u64 source_hash(__u32 id, __u32 salt, const struct address *source)
{
	__u64 hash = hash_add(layout.hash_keys[0], (__u64)salt << 32 | id);

	hash = hash_add(hash, (__u64)source->words[0] << 32 | source->words[1]);
	if (id >= MAX_MAPPINGS || address_is_ipv4(source))
		hash = hash_add(hash, (__u64)source->words[2] << 32 | source->words[3]);
	return hash_finish(hash);
}

/* There is a bucket for eight flows (FlowTableSize): a source in it has one at least, so all flows have room. */
static __always_inline struct source_bucket *source_bucket_at(__u32 number)
{
	number &= (layout.slot_word_mask + 1) * (SLOTS_PER_WORD / BUCKET_WORDS) - 1;
	return bpf_map_lookup_elem(&source_counts, &number);
}

static __always_inline __u64 *source_bucket_find(struct source_bucket *bucket, __u64 hash)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < BUCKET_WORDS; i++) {
		__u64 entry = READ_ONCE(bucket->entries[i]);

		if (entry & ENTRY_USED && !((entry ^ hash) >> 32))
			return &bucket->entries[verifier_forget(i, hash) & (BUCKET_WORDS - 1)];
	}
	return NULL;
}

/* Two CPUs that enter a source at once may leave it with two entries: they count together. */
static __always_inline __u32 source_bucket_sum(struct source_bucket *bucket, __u64 hash)
{
	__u32 flows = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < BUCKET_WORDS; i++) {
		__u64 entry = READ_ONCE(bucket->entries[i]);

		if (entry & ENTRY_USED && !((entry ^ hash) >> 32))
			flows += entry & SOURCE_COUNT_MASK;
	}
	return flows;
}

/* Counts one flow more of the source. How many it has now, or 0 when it could not be counted. */
__noinline __u32 source_count_up(__u64 hash)
{
	struct source_bucket *first = source_bucket_at(hash), *second = source_bucket_at(hash >> 32);

	if (!first || !second)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < LIMIT_TRIES; i++) {
		__u64 *place = source_bucket_find(first, hash) ?: source_bucket_find(second, hash);
		__u64 entry = place ? READ_ONCE(*place) : 0;

		if (!place) {
			bool swap = entries_count(second->entries, BUCKET_WORDS) < entries_count(first->entries, BUCKET_WORDS);

			entry = (hash & 0xffffffff00000000ULL) | ENTRY_USED | 1;
			if (!entries_claim((swap ? second : first)->entries, BUCKET_WORDS, entry) &&
			    !entries_claim((swap ? first : second)->entries, BUCKET_WORDS, entry))
				return 0;
		} else if (!(entry & ENTRY_USED) || (entry ^ hash) >> 32 ||
			   __sync_val_compare_and_swap(place, entry, entry + 1) != entry) {
			continue;
		}
		return source_bucket_sum(first, hash) + (first == second ? 0 : source_bucket_sum(second, hash));
	}
	return 0;
}

/* Takes back what source_count_up has counted. 0, or -1: there was none. */
__noinline int source_count_down(__u64 hash)
{
	struct source_bucket *first = source_bucket_at(hash), *second = source_bucket_at(hash >> 32);

	if (!first || !second)
		return -1;
#pragma clang loop unroll(disable)
	for (int i = 0; i < LIMIT_TRIES; i++) {
		__u64 *place = source_bucket_find(first, hash) ?: source_bucket_find(second, hash);
		__u64 entry = place ? READ_ONCE(*place) : 0;

		if (!place)
			return -1;
		if (entry & ENTRY_USED && !((entry ^ hash) >> 32) &&
		    __sync_val_compare_and_swap(place, entry, (entry & SOURCE_COUNT_MASK) > 1 ? entry - 1 : 0) == entry)
			return 0;
	}
	return -1;
}

/* One flow more at this rate (a token bucket, as the virtual scheduling algorithm of ITU-T I.371 has it): `due` is when all
 * that have begun so far would have, had they come at the rate. */
static __always_inline bool rate_take(__u64 *due, const struct flow_rate *rate, __u64 now)
{
	__u64 interval = rate->flows ? rate->seconds * NS_PER_SECOND / rate->flows : 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < LIMIT_TRIES; i++) {
		__u64 old = READ_ONCE(*due);
		__u64 next = (old > now ? old : now) + interval;

		if (next - now > interval * rate->flows)
			return false;
		if (__sync_val_compare_and_swap(due, old, next) == old)
			return true;
	}
	return false;
}

/* The entry of the source, or the one of its bucket that is due first: its source loses least of what it has used up. */
static __always_inline struct source_due *source_due_find(struct source_due_bucket *bucket, __u64 hash)
{
	__u32 first = 0;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < SOURCE_DUE_ENTRIES; i++) {
		if (READ_ONCE(bucket->entries[i].source) == hash)
			return &bucket->entries[verifier_forget(i, hash) & (SOURCE_DUE_ENTRIES - 1)];
		if (READ_ONCE(bucket->entries[i].due) < READ_ONCE(bucket->entries[first & (SOURCE_DUE_ENTRIES - 1)].due))
			first = verifier_forget(i, hash);
	}
	return &bucket->entries[first & (SOURCE_DUE_ENTRIES - 1)];
}

/* Whether the source may begin one flow more. */
__noinline int source_rate_take(__u64 hash, const struct flow_rate *rate)
{
	__u32 number = hash & (SOURCE_DUE_BUCKETS - 1);
	struct source_due_bucket *bucket = bpf_map_lookup_elem(&source_dues, &number);
	__u64 now = time_now();

	if (!bucket || !rate)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < LIMIT_TRIES; i++) {
		struct source_due *entry = source_due_find(bucket, hash);
		__u64 other = READ_ONCE(entry->source), due = READ_ONCE(entry->due);

		if (other == hash)
			return rate_take(&entry->due, rate, now);
		/* A new source owes nothing. Looked for again when it is entered: another CPU may have entered it before. */
		if (due <= now || __sync_val_compare_and_swap(&entry->due, due, now) == due)
			__sync_val_compare_and_swap(&entry->source, other, hash);
	}
	return 0;
}

/* How many flows of the mapping or masquerade live, as far as they are counted. */
static __always_inline __u64 *limit_count(__u32 id)
{
	return bpf_map_lookup_elem(&limit_counts, &id);
}

/* Gives back the places that `flags` say a flow has. */
static __always_inline void limits_return(const struct address *source, __u32 id, __u32 flags)
{
	__u64 *count = flags & FLOW_COUNTED ? limit_count(id) : NULL;

	if (flags & FLOW_PATTERN)
		return;
	if (count)
		__sync_fetch_and_add(count, -1);
	if (flags & FLOW_COUNTED_BY_SOURCE)
		source_count_down(source_hash(id, 0, source));
}

/* The flow in `slot` needs its places no more. Whoever clears its flags gives them back: once, whatever ends it. */
__noinline int flow_leave_places(__u32 slot)
{
	struct flow *flow = flow_at(slot);
	struct address source = {};

	if (!flow || !(flow_flags(flow) & (FLOW_COUNTED | FLOW_COUNTED_BY_SOURCE)))
		return 0;
	flow_source(flow, slot, &source);
	limits_return(&source, flow->original.mapping_id, flow_clear_flags(flow, FLOW_COUNTED | FLOW_COUNTED_BY_SOURCE));
	return 0;
}

/* Takes places among the flows that live, and notes them in the request. */
static __always_inline enum reason limits_take_places(struct flow_request *request, const struct flow_limits *limits)
{
	__u64 *count = limits->flows ? limit_count(request->mapping_id) : NULL;
	__u32 of_source;

	if (limits->flows_per_source) {
		of_source = source_count_up(source_hash(request->mapping_id, 0, &request->original.source));
		if (!of_source)
			return REASON_SOURCE_FLOW_LIMIT;
		request->flags |= FLOW_COUNTED_BY_SOURCE;
		if (of_source > limits->flows_per_source)
			return REASON_SOURCE_FLOW_LIMIT;
	}
	if (!count)
		return REASON_NONE;
	request->flags |= FLOW_COUNTED;
	return __sync_fetch_and_add(count, 1) >= limits->flows ? REASON_FLOW_LIMIT : REASON_NONE;
}

static __always_inline enum reason limits_take_rates(const struct flow_request *request, const struct flow_limits *limits)
{
	__u32 id = request->mapping_id;
	__u64 *due;

	if (limits->rate_per_source.flows &&
	    !source_rate_take(source_hash(id, limits->salt, &request->original.source), &limits->rate_per_source))
		return REASON_SOURCE_RATE_LIMIT;
	due = limits->rate.flows ? bpf_map_lookup_elem(&limit_dues, &id) : NULL;
	return due && !rate_take(due, &limits->rate, time_now()) ? REASON_RATE_LIMIT : REASON_NONE;
}

/* Whether the limits of its mapping or masquerade let the flow of the request in this CPU's scratch begin. REASON_NONE: it has
 * its places, which are given back when it is not made (flow_create) or ends (flow_end). */
__noinline int limits_take(void)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_request *request;
	struct flow_limits *limits;
	enum reason reason;

	if (!scratch)
		return REASON_TABLE_FULL;
	request = &scratch->request;
	limits = bpf_map_lookup_elem(&flow_limits, &request->mapping_id);
	if (!limits) /* they went with their mapping */
		return REASON_NONE;
	reason = limits_take_places(request, limits);
	if (reason == REASON_NONE)
		reason = limits_take_rates(request, limits);
	if (reason != REASON_NONE)
		limits_return(&request->original.source, request->mapping_id, request->flags);
	return reason;
}

#endif
