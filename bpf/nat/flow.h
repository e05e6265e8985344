/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* How a flow is made. Both halves are one record, so they live and die together. */
#ifndef FASTNAT_NAT_FLOW_H
#define FASTNAT_NAT_FLOW_H

#include "flow_table.h"
#include "shared_hop.h"
#include "source_port.h"

/* A half's last_seen is rewritten when it is this old (2^20 ns): most packets write no timestamp. */
#define LAST_SEEN_GRANULARITY 256

static __always_inline void flow_half_reset(struct flow_half *half, __u32 word, __u32 mapping_id, __u64 now)
{
	half->packets = 0;
	half->bytes = 0;
	half->last_seen = now >> 20;
	half->refreshed = 0;
	half->word = word;
	half->hop = 0;
	half->mapping_id = mapping_id;
}

/* What a tuple's record says of its ends. */
static __always_inline void flow_set_ends(struct ipv4_ends *ends, const struct tuple *tuple)
{
	ends->source = tuple->source.words[3];
	ends->destination = tuple->destination.words[3];
	ends->source_port = tuple->source_port;
	ends->destination_port = tuple->destination_port;
}

/* A wide flow's addresses. */
static __always_inline void flow_set_addresses(__u32 slot, const struct flow_request *request)
{
	struct flow_addresses *addresses = flow_addresses_at(slot);

	if (!addresses)
		return;
	addresses->original_source = request->original.source;
	addresses->original_destination = request->original.destination;
	addresses->mark = ADDRESSES_MARK;
	addresses->reply_source = request->reply.source;
	addresses->reply_destination = request->reply.destination;
}

/* 1 or 0. */
static __always_inline __u32 request_is_wide(const struct flow_request *request)
{
	const struct address *original = &request->original.source, *reply = &request->reply.source;
	__u32 differs = original->words[0] | original->words[1] | (original->words[2] ^ MAPPED_PREFIX);

	return is_nonzero(differs | reply->words[0] | reply->words[1] | (reply->words[2] ^ MAPPED_PREFIX));
}

/* Another CPU may take a free port first; then the next one is looked for. */
#define REPLY_INSERT_TRIES 4

/* Enters the reply half. One client with one source port may come to two published ports of one target, and two containers with
 * one source port to one server; the second flow gets another source port, or its replies could not be told apart. */
static __always_inline enum reason flow_insert_reply(struct __sk_buff *skb, struct flow_request *request, struct flow *flow,
						     __u32 slot, __u64 *inserted)
{
	bool suits = port_is_in_range(request, request->reply.destination_port) &&
		     !(request->flags & FLOW_HOST_PORT && host_socket_takes(skb, &request->reply)) &&
		     !flow_exists(&request->reply);

#pragma clang loop unroll(disable)
	for (int i = 0; i < REPLY_INSERT_TRIES; i++) {
		__u64 hash, entry;
		int result;

		if (!suits && source_port_find(skb))
			return REASON_NO_FREE_PORT;
		suits = false;
		flow->reply_ends.destination_port = request->reply.destination_port;
		hash = flow_hash(&request->reply);
		entry = entry_make(hash, slot, DIRECTION_REPLY, flow->state.generation);
		/* A container that comes to itself may have the published port as its own. */
		result = tuple_equal(&request->reply, &request->original) ? INSERT_EXISTS
									  : flow_index_insert(&request->reply, hash, entry);
		if (result == INSERT_DONE) {
			*inserted = hash;
			return REASON_NONE;
		}
		if (result == INSERT_FULL)
			return REASON_TABLE_FULL;
	}
	return REASON_NO_FREE_PORT;
}

/* Enters both halves, the reply first: when the original is found, its replies will be too. */
static __always_inline enum reason flow_insert(struct __sk_buff *skb, struct flow_request *request, struct flow *flow,
					       __u32 slot)
{
	__u64 hash, reply_hash = 0;
	enum reason reason = flow_insert_reply(skb, request, flow, slot, &reply_hash);
	int result;

	/* Where a flow can have one port alone, another CPU that has just made it has that. */
	if (reason == REASON_NO_FREE_PORT && flow_exists(&request->original))
		return REASON_FLOW_RACE;
	if (reason != REASON_NONE)
		return reason;
	hash = flow_hash(&request->original);
	result =
		flow_index_insert(&request->original, hash, entry_make(hash, slot, DIRECTION_ORIGINAL, flow->state.generation));
	if (result == INSERT_DONE)
		return REASON_NONE;
	flow_index_remove(reply_hash, entry_make(reply_hash, slot, DIRECTION_REPLY, flow->state.generation));
	return result == INSERT_FULL ? REASON_TABLE_FULL : REASON_FLOW_RACE;
}

/* Whether the flow may have its client's port, if that is free. */
static __always_inline bool request_keeps_port(const struct flow_request *request)
{
	return port_is_in_range(request, request->reply.destination_port) && !tuple_equal(&request->reply, &request->original);
}

/* The entries of both directions of the flow in `slot` that scratch's first packet begins, in their first buckets. */
struct flow_entries {
	__u64 original;
	__u64 reply;
};

static __always_inline struct flow_entries first_packet_entries(const struct first_packet *first, __u32 slot, __u32 generation)
{
	struct flow_entries entries = {
		.original = entry_make(first->hash, slot, DIRECTION_ORIGINAL, generation),
		.reply = entry_make(first->reply_hash, slot, DIRECTION_REPLY, generation),
	};

	return entries;
}

/* The same for a flow that keeps its client's port, of a packet that was looked for. */
static __always_inline enum reason flow_insert_plain(const struct flow_request *request, const struct first_packet *first,
						     const struct flow *flow, __u32 slot)
{
	__u64 original_hash = first->hash, reply_hash = first->reply_hash;
	struct flow_entries entries = first_packet_entries(first, slot, flow->state.generation);
	int result;

	if (!request_keeps_port(request))
		return REASON_NO_FREE_PORT;
	if (bucket_first(original_hash) == bucket_first(reply_hash)
		    ? flow_index_enter_both(bucket_first(original_hash), entries.original, entries.reply)
		    : flow_index_enter_apart(original_hash, entries.original, reply_hash, entries.reply))
		return REASON_NONE;
	result = flow_exists(&request->reply) ? INSERT_EXISTS : flow_index_insert(&request->reply, reply_hash, entries.reply);
	if (result != INSERT_DONE)
		return result == INSERT_FULL ? REASON_TABLE_FULL : REASON_NO_FREE_PORT;
	result = flow_index_insert(&request->original, original_hash, entries.original);
	if (result == INSERT_DONE)
		return REASON_NONE;
	flow_index_remove(reply_hash, entries.reply);
	return result == INSERT_FULL ? REASON_TABLE_FULL : REASON_FLOW_RACE;
}

/* What is between its client and its target alone may share the target's next hop with others of its mapping. The rest is asked
 * about one by one: whether this host still has the address that it goes by (flow_is_homeless), or each time. */
static __always_inline bool flow_shares_target(const struct flow_request *request)
{
	return !(request->flags & ~(FLOW_COUNTED | FLOW_COUNTED_BY_SOURCE)) && request->mapping_id < MAX_MAPPINGS;
}

/* 0 is that of a slot which never was a record's. */
static __always_inline __u16 generation_next(__u16 generation)
{
	__u16 next = generation + 1;

	return next + 1 - is_nonzero(next);
}

/* Somebody who used the slot's former flow is still writing its next hop (flow_set_hop): not to be used now. */
static __always_inline bool flow_is_busy(const struct flow *flow)
{
	return (READ_ONCE(flow->original.word) | READ_ONCE(flow->reply.word)) & WORD_BUSY && flow->parent != ADDRESSES_MARK;
}

static __always_inline void flow_fill(struct flow *flow, __u32 slot, const struct flow_request *request, __u32 wide, bool plain,
				      __u32 seen, __u64 now)
{
	__u32 flags = request->flags;

	if (flow_shares_target(request))
		flags |= FLOW_SHARES_HOP;
	flow->state.generation = generation_next(flow->state.generation); /* FLOW_DEAD: nobody else writes it */
	flow->state.kind = request->original.protocol | wide * KIND_WIDE;
	flow->parent = request->parent;
	flow_half_reset(&flow->original, flags << WORD_FLAGS_SHIFT | seen, request->mapping_id, now);
	flow_half_reset(&flow->reply, (__u32)(now >> 30) << WORD_CREATED_SHIFT, request->mapping_id, now);
	flow_set_ends(&flow->original_ends, &request->original);
	flow_set_ends(&flow->reply_ends, &request->reply);
	if (wide)
		flow_set_addresses(slot, request);
	/* The MAC address that its packets arrive with: at XDP nobody else has looked at it. Where the half has no use for the
	 * place, or else where the next hop of the replies will be. */
	(flags & FLOW_SHARES_HOP ? &flow->original : &flow->reply)->hop =
		plain ? arrival_find(request->arrival_mac, now) : arrival_intern(request->arrival_mac);
}

/* Gives a flow that shares no next hop the one of its first packet. */
static __always_inline void flow_set_first_hop(struct flow *flow, const struct first_packet *first)
{
	if (flow_flags(flow) & FLOW_SHARES_HOP)
		return;
	flow->original.hop = first->hop;
	flow->original.refreshed = first->refreshed;
}

/* Counts the packet that begins the flow, which nobody has found yet (as flow_track and flow_account, nat/track.h). */
static __always_inline void flow_count_first(struct flow *flow, const struct first_packet *first)
{
	flow->original.packets = 1;
	flow->original.bytes = first->shape.ip_length;
}

/* Lets others find the flow's state: from now on it can be ended. A pattern is open at once and does not give way to half-open
 * flows: theirs would lose it. */
static __always_inline void flow_publish(struct flow *flow)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	bool is_pattern = flow_flags(flow) & FLOW_PATTERN;

	flow_turn(flow, flow_state(flow), is_pattern ? FLOW_OPEN : FLOW_HALF_OPEN); /* full barrier */
	if (is_pattern && gauges)
		gauges_add(gauges, flow_is_wide(flow), 0, -1);
}

/* Puts the entries of a flow in another one's places. false: those are not all in their first buckets. */
static __always_inline bool flow_index_replace(const struct first_packet *first, struct flow_entries from,
					       struct flow_entries to)
{
	struct flow_bucket *originals = bucket_at(bucket_first(first->hash));
	struct flow_bucket *replies = bucket_at(bucket_first(first->reply_hash));

	if (!originals || !replies || !bucket_replace(replies, from.reply, to.reply))
		return false;
	if (bucket_replace(originals, from.original, to.original))
		return true;
	bucket_replace(replies, to.reply, from.reply);
	return false;
}

/* The same for a flow that is dead, unless somebody is still writing its next hop. Who finds it by its new entries may do so
 * before the record is written: what he writes is right for both flows, whose tuples are the same. */
static __always_inline bool flow_index_take_over(const struct first_packet *first, const struct flow *flow,
						 struct flow_entries from, struct flow_entries to)
{
	if (!flow_index_replace(first, from, to))
		return false;
	if (!flow_is_busy(flow))
		return true;
	flow_index_replace(first, to, from);
	return false;
}

/* Whether the flow that the request's follows on its original tuple has its reply's, too, and differs from it in nothing that
 * somebody else keeps count of. */
static __always_inline bool former_is_alike(const struct flow *former, __u32 slot, const struct flow_request *request)
{
	return (flow_flags(former) & ~FLOW_SHARES_HOP) == request->flags && former->parent == request->parent &&
	       !(request->flags & (FLOW_COUNTED | FLOW_COUNTED_BY_SOURCE)) && request_keeps_port(request) &&
	       flow_has_tuple(former, slot, DIRECTION_REPLY, &request->reply);
}

/* Whether one half-open flow more is no reason to end another. */
static __always_inline bool half_open_has_room(const struct flow_gauges *gauges, __u32 places)
{
	struct settings *limits = map_only_element(&settings);

	return limits && READ_ONCE(gauges->counts.half_open) + places <= limits->max_half_open;
}

/* Fills in what is known of a flow that begins at once. */
static __always_inline void flow_fill_plain(struct flow *flow, __u32 slot, const struct scratch *scratch, __u32 wide)
{
	flow_fill(flow, slot, &scratch->request, wide, true, scratch->first.kind.seen, scratch->first.now);
	flow_set_first_hop(flow, &scratch->first);
	flow_count_first(flow, &scratch->first);
}

/* Counts the flow of the request for its mapping, and what begins at once, the packet. Nothing but packets on this CPU makes
 * flows, one at a time. */
static __always_inline void flow_count_opened(const struct scratch *scratch, bool plain)
{
	struct mapping_counters *counters = mapping_counters_of(scratch->request.mapping_id);

	if (!counters)
		return;
	counters->opened++;
	if (plain) {
		counters->packets++;
		counters->bytes += scratch->first.shape.ip_length;
	}
}

/* Ends the former flow and makes the request's in its slot. It is dead to others before its entries are replaced, and those are
 * before it is written: as if the slot had been freed, and taken again. 0: nothing has changed. */
__noinline int flow_take_over(void)
{
	const struct scratch *scratch = map_only_element(&scratches);
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct flow_reference former = {};
	const struct first_packet *first;
	struct mapping_counters *counters;
	struct flow_state state, dead;
	struct flow_entries from, to;
	__u32 slot, wide;

	if (!scratch)
		return 0;
	first = &scratch->first;
	former.entry = first->former;
	former.flow = entry_flow(former.entry);
	slot = entry_slot(former.entry);
	wide = request_is_wide(&scratch->request);
	if (!former.flow || !gauges || !flow_reference_state(&former, &state) ||
	    !former_is_alike(former.flow, slot, &scratch->request) || !half_open_has_room(gauges, flow_places(wide)) ||
	    !flow_turn(former.flow, state, FLOW_DEAD))
		return 0;
	from = first_packet_entries(first, slot, state.generation);
	to = first_packet_entries(first, slot, generation_next(state.generation));
	if (!flow_index_take_over(first, former.flow, from, to)) {
		dead = state;
		dead.phase = FLOW_DEAD;
		flow_turn(former.flow, dead, state.phase);
		return 0;
	}
	counters = mapping_counters_of(former.flow->original.mapping_id);
	if (counters)
		__sync_fetch_and_add(&counters->closed, 1);
	flow_fill_plain(former.flow, slot, scratch, wide);
	gauges_add(gauges, wide, 0, state.phase != FLOW_HALF_OPEN);
	flow_publish(former.flow);
	flow_count_opened(scratch, true);
	return 1;
}

/* Ends the flow of the connection that the request's follows, if it still is there. */
static __always_inline void former_end(const struct first_packet *first)
{
	struct flow_reference former = {.entry = first->former, .flow = entry_flow(first->former)};

	if (first->former && former.flow)
		flow_reference_end(&former);
}

static __always_inline __u32 flow_slots_allocate(__u32 wide, bool plain)
{
	__u32 slot = wide ? flow_slot_allocate_pair() : plain ? flow_slot_allocate_inlined() : flow_slot_allocate();

	return slot == SLOT_NONE ? flow_slot_search(wide) : slot;
}

static __always_inline enum reason flow_make(struct __sk_buff *skb, bool plain, struct scratch *scratch)
{
	__u32 wide = request_is_wide(&scratch->request);
	enum reason reason = plain ? flow_admit_inlined(wide, flow_evict) : flow_admit(wide);
	struct flow *flow;
	__u32 slot;

	if (reason != REASON_NONE)
		return reason;
	slot = flow_slots_allocate(wide, plain);
	if (slot == SLOT_NONE) {
		flow_dismiss(wide);
		return REASON_TABLE_FULL;
	}
	reason = REASON_FLOW_RACE;
	flow = flow_at(slot);
	if (flow && !flow_is_busy(flow)) {
		if (plain)
			flow_fill_plain(flow, slot, scratch, wide);
		else
			flow_fill(flow, slot, &scratch->request, wide, false, 0, time_now());
		reason = plain ? flow_insert_plain(&scratch->request, &scratch->first, flow, slot)
			       : flow_insert(skb, &scratch->request, flow, slot);
	}
	if (reason != REASON_NONE) {
		if (flow) /* always */
			flow_slots_free(flow, slot, wide);
		flow_dismiss(wide);
		return reason;
	}
	flow_publish(flow);
	return REASON_NONE;
}

/* flow_create, or flow_create_plain, which has no use for `skb`. */
static __always_inline enum reason flow_create_with(struct __sk_buff *skb, bool plain)
{
	struct scratch *scratch = map_only_element(&scratches);
	enum reason reason;

	if (!scratch)
		return REASON_TABLE_FULL;
	reason = flow_make(skb, plain, scratch);
	if (reason != REASON_NONE) {
		limits_return(&scratch->request.original.source, scratch->request.mapping_id, scratch->request.flags);
		return reason;
	}
	if (!(scratch->request.flags & FLOW_PATTERN))
		flow_count_opened(scratch, plain);
	return REASON_NONE;
}

/* Makes the flow of the request in this CPU's scratch. REASON_NONE: the flow can be found; REASON_FLOW_RACE: as a rule it can,
 * another CPU has made it. */
static __noinline int flow_create(struct __sk_buff *skb)
{
	return flow_create_with(skb, false);
}

/* The same for a flow between its client and its target alone, if it can have its client's port; with scratch's first packet,
 * which is counted. */
__noinline int flow_create_plain(void)
{
	return flow_create_with(NULL, true);
}

#endif
