/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The life of a flow: admitted, made, opened, ended. Both halves are one record, so they live and die together. */
#ifndef FASTNAT_NAT_FLOW_H
#define FASTNAT_NAT_FLOW_H

#include "flow_slots.h"

/* A half's last_seen is rewritten when it is this old (ns): most packets write no timestamp. */
#define LAST_SEEN_GRANULARITY (1ULL << 28)
/* Source ports tried when another flow already has the reply tuple. */
#define SOURCE_PORT_TRIES 16
/* Flows looked at for a half-open one that gives way. */
#define EVICTION_SAMPLES 32

static __always_inline struct mapping_counters *mapping_counters_of(__u32 id)
{
	return bpf_map_lookup_elem(&mapping_counters, &id);
}

/* Ends a flow. Of several that try at once, the one that turns the phase does the work. The index entries go first, the slot
 * last: a slot in use again cannot be reached through an old entry. */
__noinline int flow_delete(__u32 slot)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);
	struct mapping_counters *counters;
	__u64 original, reply;
	__u32 phase;

	if (!flow || !gauges)
		return -1;
	phase = __sync_lock_test_and_set(&flow->life.phase, FLOW_DEAD);
	if (phase == FLOW_DEAD)
		return -1;
	original = tuple_hash(&flow->original.tuple, layout.hash_seed);
	reply = tuple_hash(&flow->reply.tuple, layout.hash_seed);
	flow_index_remove(original, entry_make(original, slot, DIRECTION_ORIGINAL, flow->life.generation));
	flow_index_remove(reply, entry_make(reply, slot, DIRECTION_REPLY, flow->life.generation));
	counters = mapping_counters_of(flow->original.mapping_id);
	if (counters)
		__sync_fetch_and_add(&counters->closed, 1);
	if (phase == FLOW_HALF_OPEN)
		__sync_fetch_and_add(&gauges->half_open, -1);
	__sync_fetch_and_add(&gauges->flows, -1);
	flow_slot_free(slot);
	return 0;
}

/* Makes room for a half-open flow by ending another one, taken at random: under a flood every half-open flow has the same
 * chance, and open flows are never touched. */
static __always_inline int flow_evict_half_open(void)
{
	__u32 slots = (layout.slot_word_mask + 1) * SLOTS_PER_WORD;

	for (int i = 0; i < EVICTION_SAMPLES; i++) {
		__u32 slot = bpf_get_prandom_u32() & (slots - 1);
		struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

		if (flow && READ_ONCE(flow->life.phase) == FLOW_HALF_OPEN && !flow_delete(slot))
			return 0;
	}
	return -1;
}

/* Takes a place among all flows and among the half-open ones, or says why there is none. */
__noinline int flow_admit(void)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct settings *limits = map_only_element(&settings);

	if (!gauges || !limits)
		return REASON_TABLE_FULL;
	if (READ_ONCE(gauges->half_open) >= limits->max_half_open && flow_evict_half_open())
		return REASON_HALF_OPEN_FULL;
	if (__sync_fetch_and_add(&gauges->flows, 1) >= limits->max_flows) {
		__sync_fetch_and_add(&gauges->flows, -1);
		return REASON_TABLE_FULL;
	}
	__sync_fetch_and_add(&gauges->half_open, 1);
	return REASON_NONE;
}

static __always_inline void flow_dismiss(void)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);

	if (!gauges)
		return;
	__sync_fetch_and_add(&gauges->half_open, -1);
	__sync_fetch_and_add(&gauges->flows, -1);
}

static __always_inline void flow_half_reset(struct flow_half *half, __u32 mapping_id, __u64 now)
{
	half->next_hop.ifindex = 0;
	half->next_hop.flags = 0;
	half->last_seen = now;
	half->packets = 0;
	half->bytes = 0;
	half->refreshed = 0;
	half->seen = 0;
	half->mapping_id = mapping_id;
}

/* The sums to add to the checksums of this half's packets: what the other half's tuple, reversed, has in their place. */
static __always_inline void flow_half_set_deltas(struct flow_half *half, const struct flow_half *other)
{
	half->address_delta =
		checksum_delta(checksum_sum_address(&half->tuple.source) + checksum_sum_address(&half->tuple.destination),
			       checksum_sum_address(&other->tuple.source) + checksum_sum_address(&other->tuple.destination));
	half->port_delta = checksum_delta((__u64)half->tuple.source_port + half->tuple.destination_port,
					  (__u64)other->tuple.source_port + other->tuple.destination_port);
}

static __always_inline __be16 source_port_random(void)
{
	return bpf_htons(1024 + bpf_get_prandom_u32() % (65536 - 1024));
}

/* Enters the reply half. One client with one source port may come to two published ports of one target; the second flow
 * gets another source port, or its replies could not be told apart. */
static __always_inline enum reason flow_insert_reply(struct flow *flow, __u32 slot, __u64 *inserted)
{
	struct tuple *tuple = &flow->reply.tuple;

#pragma clang loop unroll(disable)
	for (int i = 0; i < SOURCE_PORT_TRIES; i++) {
		__u64 hash = tuple_hash(tuple, layout.hash_seed);
		__u64 entry = entry_make(hash, slot, DIRECTION_REPLY, flow->life.generation);
		int result = flow_index_insert(tuple, hash, entry);

		if (result == INSERT_DONE) {
			*inserted = hash;
			return REASON_NONE;
		}
		if (result == INSERT_FULL)
			return REASON_TABLE_FULL;
		tuple->destination_port = source_port_random();
	}
	return REASON_NO_FREE_PORT;
}

/* Enters both halves, the reply first: when the original is found, its replies will be too. */
static __always_inline enum reason flow_insert(struct flow *flow, __u32 slot)
{
	__u64 reply_hash = 0, hash = tuple_hash(&flow->original.tuple, layout.hash_seed);
	__u64 entry = entry_make(hash, slot, DIRECTION_ORIGINAL, flow->life.generation);
	enum reason reason = flow_insert_reply(flow, slot, &reply_hash);
	int result;

	if (reason != REASON_NONE)
		return reason;
	flow_half_set_deltas(&flow->original, &flow->reply);
	flow_half_set_deltas(&flow->reply, &flow->original);
	result = flow_index_insert(&flow->original.tuple, hash, entry);
	if (result == INSERT_DONE)
		return REASON_NONE;
	flow_index_remove(reply_hash, entry_make(reply_hash, slot, DIRECTION_REPLY, flow->life.generation));
	return result == INSERT_FULL ? REASON_TABLE_FULL : REASON_FLOW_RACE;
}

/* A packet that may begin a flow, and where its mapping sends it. */
struct flow_request {
	struct tuple original;
	struct address target;
	__u8 uplink_mac[6]; /* that the packet was sent to */
	__be16 target_port;
	__u32 mapping_id;
	__u32 zero;
};

static __always_inline void flow_fill(struct flow *flow, const struct flow_request *request)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	flow->life.generation++;
	flow->life.created = now;
	flow->original.tuple = request->original;
	flow->reply.tuple.source = request->target;
	flow->reply.tuple.destination = request->original.source;
	flow->reply.tuple.source_port = request->target_port;
	flow->reply.tuple.destination_port = request->original.source_port;
	flow->reply.tuple.protocol = request->original.protocol;
	flow_half_reset(&flow->original, request->mapping_id, now);
	flow_half_reset(&flow->reply, request->mapping_id, now);
	__builtin_memcpy(flow->reply.next_hop.source_mac, request->uplink_mac, sizeof(request->uplink_mac));
}

/* Somebody who used the slot's former flow is still writing its next hop (next_hop.h): not to be used now. */
static __always_inline bool flow_is_being_written(const struct flow *flow)
{
	return (READ_ONCE(flow->original.next_hop.sequence) | READ_ONCE(flow->reply.next_hop.sequence)) & 1;
}

/* REASON_NONE: the flow can be found; REASON_FLOW_RACE: as a rule it can, another CPU has made it. */
static __noinline int flow_create(const struct flow_request *request)
{
	struct mapping_counters *counters;
	enum reason reason;
	struct flow *flow;
	__u32 slot;

	if (!request)
		return REASON_MALFORMED;
	reason = flow_admit();
	if (reason != REASON_NONE)
		return reason;
	slot = flow_slot_allocate();
	if (slot == SLOT_NONE) {
		flow_dismiss();
		return REASON_TABLE_FULL;
	}
	reason = REASON_FLOW_RACE;
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (flow && !flow_is_being_written(flow)) {
		flow_fill(flow, request);
		reason = flow_insert(flow, slot);
	}
	if (!flow || reason != REASON_NONE) {
		flow_slot_free(slot);
		flow_dismiss();
		return reason;
	}
	__sync_lock_test_and_set(&flow->life.phase, FLOW_HALF_OPEN);
	counters = mapping_counters_of(request->mapping_id);
	if (counters)
		__sync_fetch_and_add(&counters->opened, 1);
	return REASON_NONE;
}

#endif
