/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Which mapping a packet's destination falls into. Asked for the first packet of a flow only. */
#ifndef FASTNAT_NAT_MAPPING_H
#define FASTNAT_NAT_MAPPING_H

#include "next_hop.h"

struct mapping_match {
	struct mapping *mapping;
	__u16 first_port; /* host byte order */
	bool any_address;
};

/* 0 to 63; `word` is not 0. */
static __always_inline __u32 bit_highest(__u64 word)
{
	__u32 bit = 0;

	if (word >> 32)
		bit += 32, word >>= 32;
	if (word >> 16)
		bit += 16, word >>= 16;
	if (word >> 8)
		bit += 8, word >>= 8;
	if (word >> 4)
		bit += 4, word >>= 4;
	if (word >> 2)
		bit += 2, word >>= 2;
	return bit + (word >> 1);
}

/* Bits 0 to `bit` set. */
static __always_inline __u64 bits_up_to(__u32 bit)
{
	return ~0ULL >> (63 - (bit & 63));
}

/* The last port at or below `port` where a range begins, or -1; of the address and protocol of `key`. */
__noinline int range_start_find(const struct mapping_key *key, __u32 port)
{
	struct range_starts *starts;
	struct range_key owner = {};
	__u32 word = port / 64;
	__u64 bits;

	if (!key || word > 1023)
		return -1;
	owner.address = key->address;
	owner.protocol = key->protocol;
	starts = bpf_map_lookup_elem(&mapping_ranges, &owner);
	if (!starts)
		return -1;
	bits = starts->words[word] & bits_up_to(port);
	if (bits)
		return word * 64 + bit_highest(bits);
	if (!word)
		return -1;
	word--;
	bits = bits_up_to(word);
	for (int below = 0; below < 16; below++) {
		__u32 group = word / 64 - below;
		__u64 summary;

		if (group > 15)
			return -1;
		summary = starts->summary[group] & bits;
		if (summary) {
			word = group * 64 + bit_highest(summary);
			if (word > 1023)
				return -1;
			bits = starts->words[word];
			return bits ? word * 64 + bit_highest(bits) : -1;
		}
		bits = ~0ULL;
	}
	return -1;
}

static __always_inline bool mapping_find_range(struct mapping_key *key, struct mapping_match *match)
{
	__u16 port = bpf_ntohs(key->port);
	int first = range_start_find(key, port);
	struct mapping *mapping;

	if (first < 0)
		return false;
	key->port = bpf_htons(first);
	mapping = bpf_map_lookup_elem(&mappings, key);
	key->port = bpf_htons(port);
	if (!mapping || port > bpf_ntohs(mapping->port_end))
		return false;
	match->mapping = mapping;
	match->first_port = first;
	return true;
}

static __always_inline bool mapping_find_for(struct mapping_key *key, bool has_ranges, struct mapping_match *match)
{
	struct mapping *mapping = bpf_map_lookup_elem(&mappings, key);

	if (mapping) {
		match->mapping = mapping;
		match->first_port = bpf_ntohs(key->port);
		return true;
	}
	return has_ranges && mapping_find_range(key, match);
}

/* What stands behind the address of a key, in one store: see address_set_ipv4. */
static __always_inline void mapping_key_set_port(struct mapping_key *key, const struct tuple *tuple)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	__u32 behind = tuple->destination_port | (__u32)tuple->protocol << 16;
#else
	__u32 behind = (__u32)tuple->destination_port << 16 | (__u32)tuple->protocol << 8;
#endif

	__builtin_memcpy(&key->port, &behind, sizeof(behind));
}

/* A mapping with the packet's destination address beats one for any local address. */
static __always_inline bool mapping_find(const struct settings *current, const struct tuple *tuple, struct mapping_match *match)
{
	struct mapping_key key __attribute__((aligned(8)));

	mapping_key_set_port(&key, tuple);
	match->any_address = false;
	if (current->has_addressed_mappings) {
		__builtin_memcpy(&key.address, &tuple->destination, sizeof(key.address));
		if (mapping_find_for(&key, current->has_ranges, match))
			return true;
	}
	match->any_address = true;
	address_set_any(&key.address, address_is_ipv4(&tuple->destination));
	return mapping_find_for(&key, current->has_ranges, match);
}

/* Whether it was of this destination that the mapping was noted, while no mapping has changed. */
static __always_inline bool mapping_note_holds(const struct mapping_note *note, const struct tuple *tuple, __u32 version,
					       __u64 now)
{
	return note->destination_port == tuple->destination_port && note->protocol == tuple->protocol &&
	       note->version == version && address_equal(&note->destination, &tuple->destination) &&
	       note_is_fresh(note->noted, now);
}

/* As mapping_find, of packets that come one after another to one port: the note of it, or NULL. `version` is that of the
 * mappings, read before. */
static __always_inline struct mapping_note *mapping_recall(const struct settings *current, const struct tuple *tuple,
							   __u32 version, __u64 now, struct mapping_match *match)
{
	struct mapping_note *note = map_only_element(&mapping_notes);

	if (!note)
		return NULL;
	if (!mapping_note_holds(note, tuple, version, now)) {
		if (!mapping_find(current, tuple, match))
			return NULL;
		note->mapping = *match->mapping;
		note->destination = tuple->destination;
		note->destination_port = tuple->destination_port;
		note->protocol = tuple->protocol;
		note->any_address = match->any_address;
		note->first_port = match->first_port;
		note->version = version;
		note->noted = now >> 20;
		note->arrival.ifindex = 0;
		note->client.ifindex = 0;
	}
	match->mapping = &note->mapping;
	match->any_address = note->any_address;
	match->first_port = note->first_port;
	return note;
}

static __always_inline bool mapping_allows(const struct mapping *mapping, const struct address *source)
{
	struct source_key key = {
		.prefix_length = 32 + 128,
		.mapping_id = bpf_htonl(mapping->id),
		.source = *source,
	};

	return !(mapping->flags & MAPPING_RESTRICTED) || bpf_map_lookup_elem(&mapping_sources, &key);
}

static __always_inline __be16 mapping_target_port(const struct mapping_match *match, __be16 port)
{
	if (match->mapping->flags & MAPPING_SINGLE_TARGET)
		return match->mapping->target_port;
	return bpf_htons(bpf_ntohs(match->mapping->target_port) + bpf_ntohs(port) - match->first_port);
}

/* Why a packet that falls into `match` may not begin a flow, or REASON_NONE. */
static __always_inline enum reason mapping_refuses(struct __sk_buff *skb, const struct mapping_match *match,
						   const struct tuple *original)
{
	enum locality locality = match->any_address ? address_locality(skb, original) : LOCALITY_HOST;

	/* A port of 127.0.0.1 is for this host alone: the stack takes no such packet from a network either. */
	if (address_is_no_host(&original->destination))
		return REASON_NOT_LOCAL;
	if (locality != LOCALITY_HOST)
		return locality == LOCALITY_ELSEWHERE ? REASON_NOT_LOCAL : REASON_NO_ROUTE;
	if (!mapping_allows(match->mapping, &original->source))
		return REASON_NOT_ALLOWED;
	if (address_is_link_local(&original->source))
		return REASON_LINK_LOCAL;
	if (address_is_no_host(&original->source) || source_is_of_host(skb, original))
		return REASON_MARTIAN_SOURCE;
	return REASON_NONE;
}

/* This host's address towards a target of another family than its client: as the kernel would choose it, or, before Linux 6.7,
 * as the loader has seen it. */
__noinline int mapping_client_address(struct __sk_buff *skb, const struct mapping *mapping, struct address *client)
{
	struct bpf_fib_lookup fib;
	long result;

	if (!mapping || !client)
		return -1;
	*client = mapping->client;
	result = fib_find(skb, &fib, client, &mapping->target, FIB_LOOKUP_SOURCE);
	if (result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH)
		fib_source(&fib, address_is_ipv4(&mapping->target), client);
	return address_is_no_host(client) ? -1 : 0;
}

/* Whether the target is of another family than who comes to the mapping. */
static __always_inline bool mapping_translates(const struct mapping *mapping, const struct tuple *original)
{
	return address_is_ipv4(&mapping->target) != address_is_ipv4(&original->destination);
}

/* What the target sees as the client: the client itself, as a rule. A container that comes to a published port of its own host
 * is seen under the address it has sent to, so that the reply comes back through the host even where both are on one bridge
 * (hairpinning: RFC 4787, REQ-9a, wants the external address, too). */
static __always_inline void request_set_mapping(struct flow_request *request, const struct mapping_match *match, enum side side)
{
	bool hides = side == SIDE_CONTAINER;

	request->reply.source = match->mapping->target;
	request->reply.destination = hides ? request->original.destination : request->original.source;
	tuple_set_ports(&request->reply, request->original.protocol,
			mapping_target_port(match, request->original.destination_port), request->original.source_port);
	request->first_port = bpf_ntohs(request->original.source_port) < PORT_FIRST_UNPRIVILEGED ? 1 : PORT_FIRST_UNPRIVILEGED;
	request->last_port = PORT_LAST;
	request->mapping_id = match->mapping->id;
	request->flags = hides ? FLOW_HOST_PORT : 0;
	request->parent = SLOT_NONE;
}

/* A client of another family than the target's is seen as this host. */
static __always_inline enum reason request_translate(struct __sk_buff *skb, struct flow_request *request,
						     const struct mapping *mapping)
{
	request->flags = FLOW_HOST_PORT | FLOW_TRANSLATES;
	return mapping_client_address(skb, mapping, &request->reply.destination) ? REASON_NO_ADDRESS : REASON_NONE;
}

/* Whether a new flow of `tuple` would come to the mapping of this number. */
static __always_inline bool mapping_still_leads(const struct tuple *tuple, __u32 id)
{
	const struct settings *current = map_only_element(&settings);
	struct mapping_match match;

	return current && mapping_find(current, tuple, &match) && match.mapping->id == id;
}

/* Mappings have changed while a flow was made. The loader first changes a mapping, then counts, then ends the flows of what was
 * there before: those made too late for it to see end here, and with them some that need not have. */
static __always_inline enum reason flow_withdraw(const struct tuple *original)
{
	struct flow_reference reference;

	if (flow_find(original, &reference))
		flow_reference_end(&reference);
	return REASON_MAPPING_RACE;
}

/* Makes the flow that a packet to a published port begins; the request in this CPU's scratch has its original tuple and the
 * MAC address. REASON_NONE: it can be found now; REASON_UNPUBLISHED: there is no such port. */
__noinline int mapping_begin(struct __sk_buff *skb, enum side side)
{
	struct settings *current = map_only_element(&settings);
	struct scratch *scratch = map_only_element(&scratches);
	struct mapping_match match;
	enum reason reason;
	__u32 version;

	if (!scratch || !current)
		return REASON_UNPUBLISHED;
	version = READ_ONCE(current->mappings_version);
	if (!mapping_find(current, &scratch->request.original, &match))
		return REASON_UNPUBLISHED;
	request_set_mapping(&scratch->request, &match, side);
	reason = mapping_refuses(skb, &match, &scratch->request.original);
	if (reason == REASON_NONE && mapping_translates(match.mapping, &scratch->request.original))
		reason = request_translate(skb, &scratch->request, match.mapping);
	if (reason == REASON_NONE && match.mapping->flags & MAPPING_LIMITED)
		reason = limits_take();
	if (reason == REASON_NONE)
		reason = flow_create(skb);
	if (reason == REASON_NONE && READ_ONCE(current->mappings_version) != version)
		return flow_withdraw(&scratch->request.original);
	return reason;
}

#endif
