/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* How a flow's record is read: its parts, and the tuples of its directions. Addresses of IPv6 stand in the slot after the
 * record's, which is an even one then (docs/decisions/0029-small-records.md). */
#ifndef FASTNAT_NAT_FLOW_RECORD_H
#define FASTNAT_NAT_FLOW_RECORD_H

#include "clock.h"

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

/* Numbers of several fields at once, at any multiple of two bytes. */
static __always_inline __u64 word_at(const void *place)
{
	return READ_ONCE(*(const __u64 *)place);
}

static __always_inline __u32 half_word_at(const void *place)
{
	return READ_ONCE(*(const __u32 *)place);
}

static __always_inline struct flow *flow_at(__u32 slot)
{
	__u32 number = slot / 2;
	void *pair = bpf_map_lookup_elem(&flows, &number);

	return pair ? pair + slot % 2 * FLOW_PART_BYTES : NULL;
}

/* By arithmetic: of a branch the verifier would follow both ways to the program's end. */
static __always_inline struct flow_half *flow_half(struct flow *flow, enum direction direction)
{
	return (void *)flow + (direction & 1) * offsetof(struct flow, reply);
}

static __always_inline const struct ipv4_ends *flow_ends(const struct flow *flow, enum direction direction)
{
	return (const void *)flow + offsetof(struct flow, original_ends) + (direction & 1) * sizeof(struct ipv4_ends);
}

static __always_inline __u32 flow_flags(const struct flow *flow)
{
	return READ_ONCE(flow->original.word) >> WORD_FLAGS_SHIFT;
}

static __always_inline __u8 flow_protocol(const struct flow *flow)
{
	return READ_ONCE(flow->state.kind) & ~KIND_WIDE;
}

/* 1 or 0. */
static __always_inline __u32 kind_is_wide(__u8 kind)
{
	return kind / KIND_WIDE & 1;
}

static __always_inline __u32 flow_is_wide(const struct flow *flow)
{
	return kind_is_wide(READ_ONCE(flow->state.kind));
}

/* Clears flags, and says which of all there were. */
static __always_inline __u32 flow_clear_flags(struct flow *flow, __u32 flags)
{
	return __sync_fetch_and_and(&flow->original.word, ~(flags << WORD_FLAGS_SHIFT)) >> WORD_FLAGS_SHIFT;
}

/* The addresses of a wide flow. */
static __always_inline struct flow_addresses *flow_addresses_at(__u32 slot)
{
	return (void *)flow_at(slot | 1);
}

/* Source and destination of a direction, one after the other. */
static __always_inline const struct address *flow_addresses_of(const struct flow_addresses *addresses, enum direction direction)
{
	return (const void *)addresses + (direction & 1) * offsetof(struct flow_addresses, reply_source);
}

/* The tuple of a direction of the flow in `slot`. */
static __always_inline void flow_tuple(const struct flow *flow, __u32 slot, enum direction direction, struct tuple *tuple)
{
	const struct ipv4_ends *ends = flow_ends(flow, direction);
	const struct flow_addresses *addresses;

	tuple_set_ports(tuple, flow_protocol(flow), ends->source_port, ends->destination_port);
	if (!flow_is_wide(flow)) {
		address_set_ipv4(&tuple->source, ends->source);
		address_set_ipv4(&tuple->destination, ends->destination);
		return;
	}
	addresses = flow_addresses_at(slot);
	if (!addresses)
		return;
	tuple->source = flow_addresses_of(addresses, direction)[0];
	tuple->destination = flow_addresses_of(addresses, direction)[1];
}

/* Who has begun the flow in `slot`. */
static __always_inline void flow_source(const struct flow *flow, __u32 slot, struct address *source)
{
	const struct flow_addresses *addresses;

	if (!flow_is_wide(flow)) {
		address_set_ipv4(source, flow->original_ends.source);
		return;
	}
	addresses = flow_addresses_at(slot);
	if (addresses)
		*source = addresses->original_source;
}

/* Whether `tuple` is that of a direction of the flow in `slot`. */
static __always_inline bool flow_has_tuple(const struct flow *flow, __u32 slot, enum direction direction,
					   const struct tuple *tuple)
{
	const struct ipv4_ends *ends = flow_ends(flow, direction);
	const struct flow_addresses *addresses;

	if ((flow_protocol(flow) ^ tuple->protocol) | (ends->source_port ^ tuple->source_port) |
	    (ends->destination_port ^ tuple->destination_port))
		return false;
	if (!flow_is_wide(flow))
		return tuple_has_ipv4(tuple, ends->source, ends->destination);
	addresses = flow_addresses_at(slot);
	return addresses && address_equal(&flow_addresses_of(addresses, direction)[0], &tuple->source) &&
	       address_equal(&flow_addresses_of(addresses, direction)[1], &tuple->destination);
}

/* The hash of a direction's tuple of the flow in `slot`. */
__noinline __u64 flow_direction_hash(__u32 slot, __u32 direction)
{
	const struct flow *flow = flow_at(slot);
	const struct flow_addresses *addresses;
	const struct address *source;
	const struct ipv4_ends *ends;

	if (!flow)
		return 0;
	ends = flow_ends(flow, direction);
	if (!flow_is_wide(flow))
		return tuple_hash_ipv4(ends->source, ends->source_port, ends->destination, ends->destination_port,
				       flow_protocol(flow), layout.hash_keys);
	addresses = flow_addresses_at(slot);
	if (!addresses)
		return 0;
	source = flow_addresses_of(addresses, direction);
	if (address_is_ipv4(source)) /* of a flow between families */
		return tuple_hash_ipv4(source[0].words[3], ends->source_port, source[1].words[3], ends->destination_port,
				       flow_protocol(flow), layout.hash_keys);
	return tuple_hash_ipv6(&source[0], ends->source_port, &source[1], ends->destination_port, flow_protocol(flow),
			       layout.hash_keys);
}

/* Age of a time in units of 2^20 ns, by a clock in ns, up to 48 days, which is beyond any timeout; what lies ahead, by another
 * CPU's clock, has none. */
static __always_inline __u32 units_since(__u32 then, __u64 now)
{
	__u32 age = (__u32)(now >> 20) - then;

	return age >= UNITS_AHEAD ? 0 : age;
}

#endif
