/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* How a flow is made. Both halves are one record, so they live and die together. */
#ifndef FASTNAT_NAT_FLOW_H
#define FASTNAT_NAT_FLOW_H

#include "flow_table.h"
#include "source_port.h"

/* A half's last_seen is rewritten when it is this old (ns): most packets write no timestamp. */
#define LAST_SEEN_GRANULARITY (1ULL << 28)

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

/* What this half's packets become: the other half's tuple, reversed. */
static __always_inline void flow_half_set_ends(struct flow_half *half, const struct flow_half *other, bool is_ipv4)
{
	struct ipv4_ends *ends = flow_half_becomes(half);

	ends->source = is_ipv4 ? other->tuple.destination.words[3] : 0;
	ends->destination = is_ipv4 ? other->tuple.source.words[3] : 0;
	ends->source_port = is_ipv4 ? other->tuple.destination_port : 0;
	ends->destination_port = is_ipv4 ? other->tuple.source_port : 0;
}

static __always_inline void flow_set_rewrites_inlined(struct flow *flow)
{
	const struct tuple *original = &flow->original.tuple, *reply = &flow->reply.tuple;
	bool is_ipv4 = address_is_ipv4(&original->source) && address_is_ipv4(&reply->source);

	flow_half_set_ends(&flow->original, &flow->reply, is_ipv4);
	flow_half_set_ends(&flow->reply, &flow->original, is_ipv4);
	flow->original.address_delta =
		checksum_delta(checksum_sum_address(&original->source) + checksum_sum_address(&original->destination),
			       checksum_sum_address(&reply->source) + checksum_sum_address(&reply->destination));
	flow->original.port_delta = checksum_delta((__u64)original->source_port + original->destination_port,
						   (__u64)reply->source_port + reply->destination_port);
	flow->reply.address_delta = checksum_negate(flow->original.address_delta);
	flow->reply.port_delta = checksum_negate(flow->original.port_delta);
}

/* A function of its own for the sake of its caller's stack. */
__noinline int flow_set_rewrites(struct flow *flow)
{
	if (!flow)
		return -1;
	flow_set_rewrites_inlined(flow);
	return 0;
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
		flow->reply.tuple.destination_port = request->reply.destination_port;
		hash = flow_hash(&flow->reply.tuple);
		entry = entry_make(hash, slot, DIRECTION_REPLY, flow->state.generation);
		/* A container that comes to itself may have the published port as its own. */
		result = tuple_equal(&flow->reply.tuple, &flow->original.tuple)
				 ? INSERT_EXISTS
				 : flow_index_insert(&flow->reply.tuple, hash, entry);
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
	if (reason == REASON_NO_FREE_PORT && flow_exists(&flow->original.tuple))
		return REASON_FLOW_RACE;
	if (reason != REASON_NONE)
		return reason;
	flow_set_rewrites(flow);
	hash = flow_hash(&flow->original.tuple);
	result = flow_index_insert(&flow->original.tuple, hash,
				   entry_make(hash, slot, DIRECTION_ORIGINAL, flow->state.generation));
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

/* The same for a flow that keeps its client's port, of a packet that was looked for. */
static __always_inline enum reason flow_insert_plain(const struct flow_request *request, struct first_packet *first,
						     struct flow *flow, __u32 slot)
{
	__u64 original_hash = first->hash, reply_hash = first->reply_hash;
	__u64 original = entry_make(original_hash, slot, DIRECTION_ORIGINAL, flow->state.generation);
	__u64 reply = entry_make(reply_hash, slot, DIRECTION_REPLY, flow->state.generation);
	int result;

	if (!request_keeps_port(request))
		return REASON_NO_FREE_PORT;
	flow_set_rewrites_inlined(flow);
	first->address_delta = flow->original.address_delta;
	first->port_delta = flow->original.port_delta;
	if (bucket_first(original_hash) == bucket_first(reply_hash)
		    ? flow_index_enter_both(bucket_first(original_hash), original, reply)
		    : flow_index_enter_apart(original_hash, original, reply_hash, reply))
		return REASON_NONE;
	result = flow_exists(&request->reply) ? INSERT_EXISTS : flow_index_insert(&request->reply, reply_hash, reply);
	if (result != INSERT_DONE)
		return result == INSERT_FULL ? REASON_TABLE_FULL : REASON_NO_FREE_PORT;
	result = flow_index_insert(&request->original, original_hash, original);
	if (result == INSERT_DONE)
		return REASON_NONE;
	flow_index_remove(reply_hash, reply);
	return result == INSERT_FULL ? REASON_TABLE_FULL : REASON_FLOW_RACE;
}

/* What is between its client and its target alone may share the target's next hop with others of its mapping. The rest is asked
 * about one by one: whether this host still has the address that it goes by (flow_is_homeless), or each time. */
static __always_inline bool flow_shares_target(const struct flow_request *request)
{
	return !(request->flags & ~(FLOW_COUNTED | FLOW_COUNTED_BY_SOURCE)) && request->mapping_id < MAX_MAPPINGS;
}

/* Keeps the MAC address that the packets of a new flow arrive with: at XDP nobody else has looked at it. Where the half has no
 * use for the place, or else where the next hop of the replies will have it. */
static __always_inline void flow_set_arrival(struct flow *flow, const __u8 *mac)
{
	struct flow_half *half = flow->original.next_hop.flags & NEXT_HOP_SHARED ? &flow->original : &flow->reply;

	__builtin_memcpy(half->next_hop.source_mac, mac, ETH_ALEN);
}

static __always_inline void flow_fill(struct flow *flow, const struct flow_request *request, __u64 now)
{
	flow->state.generation++; /* FLOW_DEAD: nobody else writes it */
	flow->created = now >> 26;
	flow->parent = request->parent;
	flow->flags = request->flags;
	flow->original.tuple = request->original;
	flow->reply.tuple = request->reply;
	flow_half_reset(&flow->original, request->mapping_id, now);
	flow_half_reset(&flow->reply, request->mapping_id, now);
	if (flow_shares_target(request))
		flow->original.next_hop.flags = NEXT_HOP_SHARED;
	flow_set_arrival(flow, request->arrival_mac);
}

/* Copies everything but the sequence, which is the record's own. */
static __always_inline void next_hop_copy(struct next_hop *to, const struct next_hop *from)
{
	to->ifindex = from->ifindex;
	__builtin_memcpy(to->destination_mac, from->destination_mac, ETH_ALEN);
	__builtin_memcpy(to->source_mac, from->source_mac, ETH_ALEN);
	to->mtu = from->mtu;
	to->flags = from->flags;
}

/* Gives a flow that shares no next hop the one of its first packet. */
static __always_inline void flow_set_first_hop(struct flow *flow, const struct first_packet *first)
{
	if (flow->original.next_hop.flags & NEXT_HOP_SHARED)
		return;
	next_hop_copy(&flow->original.next_hop, &first->next_hop);
	flow->original.refreshed = first->refreshed;
}

/* Counts the packet that begins the flow, which nobody has found yet (as flow_track and flow_account, nat/track.h). */
static __always_inline void flow_count_first(struct flow *flow, const struct first_packet *first)
{
	flow->original.packets = 1;
	flow->original.bytes = first->ip_length;
	flow->original.seen = first->seen;
}

/* Somebody who used the slot's former flow is still writing its next hop (next_hop.h): not to be used now. */
static __always_inline bool flow_is_being_written(const struct flow *flow)
{
	return (READ_ONCE(flow->original.next_hop.sequence) | READ_ONCE(flow->reply.next_hop.sequence)) & 1;
}

/* Lets others find the flow's state: from now on it can be ended. A pattern is open at once and does not give way to half-open
 * flows: theirs would lose it. */
static __always_inline void flow_publish(struct flow *flow)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	bool is_pattern = flow->flags & FLOW_PATTERN;

	flow_turn(flow, flow_state(flow), is_pattern ? FLOW_OPEN : FLOW_HALF_OPEN); /* full barrier */
	if (is_pattern && gauges)
		gauges_add(gauges, 0, -1);
}

static __always_inline enum reason flow_make(struct __sk_buff *skb, bool plain, struct scratch *scratch)
{
	enum reason reason = plain ? flow_admit_inlined(flow_evict) : flow_admit();
	struct flow *flow;
	__u32 slot;

	if (reason != REASON_NONE)
		return reason;
	slot = plain ? flow_slot_allocate_inlined() : flow_slot_allocate();
	if (slot == SLOT_NONE) {
		flow_dismiss();
		return REASON_TABLE_FULL;
	}
	reason = REASON_FLOW_RACE;
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (flow && !flow_is_being_written(flow)) {
		flow_fill(flow, &scratch->request, plain ? scratch->first.now : time_now());
		if (plain) {
			flow_set_first_hop(flow, &scratch->first);
			flow_count_first(flow, &scratch->first);
		}
		reason = plain ? flow_insert_plain(&scratch->request, &scratch->first, flow, slot)
			       : flow_insert(skb, &scratch->request, flow, slot);
	}
	if (!flow || reason != REASON_NONE) {
		flow_slot_free(slot);
		flow_dismiss();
		return reason;
	}
	flow_publish(flow);
	return REASON_NONE;
}

/* flow_create, or flow_create_plain, which has no use for `skb`. */
static __always_inline enum reason flow_create_with(struct __sk_buff *skb, bool plain)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct mapping_counters *counters;
	enum reason reason;

	if (!scratch)
		return REASON_TABLE_FULL;
	reason = flow_make(skb, plain, scratch);
	if (reason != REASON_NONE) {
		limits_return(&scratch->request.original, scratch->request.mapping_id, scratch->request.flags);
		return reason;
	}
	if (scratch->request.flags & FLOW_PATTERN)
		return REASON_NONE;
	counters = mapping_counters_of(scratch->request.mapping_id);
	if (!counters)
		return REASON_NONE;
	counters->opened++; /* nothing but packets on this CPU makes flows, one at a time */
	if (plain) {
		counters->packets++;
		counters->bytes += scratch->first.ip_length;
	}
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
