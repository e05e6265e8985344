/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Connections that containers begin: how their source becomes an address and port of this host.
 *
 * Symmetric (address- and port-dependent, as the kernel does it): each flow has an external port that is its own among the
 * flows to that destination. Endpoint-independent (RFC 4787, REQ-1): a pattern, entered like a flow, holds the external port of
 * a container's address and port, whatever the destination: container → anywhere, anywhere → external port. Flows to single
 * destinations take their port from it and keep it alive. Who may come in without having been asked for is a matter of
 * patterns, too: anybody where that is allowed, or the addresses that the container has sent to, each of which has a pattern
 * then. */
#ifndef FASTNAT_NAT_MASQUERADE_H
#define FASTNAT_NAT_MASQUERADE_H

#include <linux/errno.h>

#include "mapping.h"

static __always_inline struct masquerade *masquerade_find(const struct address *source)
{
	struct masquerade_key key = {.prefix_length = 128, .source = *source};
	struct masquerade *rule = bpf_map_lookup_elem(&masquerades, &key);

	/* ::/0 is a prefix of every IPv4 address as it stands here. */
	return rule && address_is_ipv4(&rule->address) == address_is_ipv4(source) ? rule : NULL;
}

static __always_inline bool masquerade_exempts(const struct masquerade *rule, const struct address *destination)
{
	struct exemption_key key = {
		.prefix_length = 32 + 128,
		.id = bpf_htonl(rule->id),
		.destination = *destination,
	};

	return rule->flags & MASQUERADE_HAS_EXEMPTIONS && bpf_map_lookup_elem(&masquerade_exemptions, &key);
}

/* Asks the kernel for the way of `original`, and for the source address it would choose where `rule` follows that: before Linux
 * 6.7 it does not tell, and the address that the loader has seen stands. */
static __always_inline long masquerade_route(struct __sk_buff *skb, const struct tuple *original, const struct masquerade *rule,
					     struct bpf_fib_lookup *fib, struct address *address)
{
	long result = -EINVAL;

	*address = rule->address;
	if (rule->flags & MASQUERADE_FOLLOWS) {
		result = fib_find(skb, fib, &original->source, &original->destination, FIB_LOOKUP_SOURCE);
		if (result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH)
			fib_source(fib, address_is_ipv4(&original->source), address);
	}
	if (result == -EINVAL)
		result = fib_find(skb, fib, &original->source, &original->destination, 0);
	return result;
}

/* The address that packets of `original` leave this host with. REASON_UNPUBLISHED: they do not leave by the rule's uplink. */
__noinline int masquerade_address(struct __sk_buff *skb, const struct tuple *original, const struct masquerade *rule,
				  struct address *address)
{
	struct bpf_fib_lookup fib;
	long result;

	if (!original || !rule || !address)
		return REASON_UNPUBLISHED;
	result = masquerade_route(skb, original, rule, &fib, address);
	if (result == FIB_RESULT_NO_SOURCE)
		return REASON_NO_ADDRESS;
	if ((result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH) || fib.ifindex != rule->uplink)
		return REASON_UNPUBLISHED;
	return address_is_no_host(address) ? REASON_NO_ADDRESS : REASON_NONE;
}

/* The ports of the rule. Where it leaves the choice, those that are to a server what the container's own is, as the kernel has
 * it: below 512, below 1024, or others (RFC 4787, REQ-3a). Of identifiers, none is better than others. */
static __always_inline void request_set_ports(struct flow_request *request, const struct masquerade *rule)
{
	__u32 port = bpf_ntohs(request->original.source_port);

	request->first_port = PORT_FIRST_UNPRIVILEGED;
	request->last_port = PORT_LAST;
	if (rule->first_port) {
		request->first_port = rule->first_port;
		request->last_port = rule->last_port;
	} else if (protocol_is_icmp(request->original.protocol)) {
		request->first_port = 1;
	} else if (port < PORT_FIRST_PRIVILEGED) {
		request->first_port = 1;
		request->last_port = PORT_FIRST_PRIVILEGED - 1;
	} else if (port < PORT_FIRST_UNPRIVILEGED) {
		request->first_port = PORT_FIRST_PRIVILEGED;
		request->last_port = PORT_FIRST_UNPRIVILEGED - 1;
	}
}

static __always_inline struct masquerade_note *masquerade_note_at(const struct tuple *original)
{
	__u32 index = addresses_place(&original->source, &original->destination, MASQUERADE_NOTES);

	return bpf_map_lookup_elem(&masquerade_notes, &index);
}

/* Keeps what was found out of the addresses of the request. Who has an external port of his own, or comes to somebody else's,
 * is looked at each time. */
static __always_inline void masquerade_note_write(const struct flow_request *request, const struct masquerade *rule,
						  __u32 ifindex, __u32 version)
{
	struct masquerade_note *note = masquerade_note_at(&request->original);

	if (!note || rule->flags & ~(MASQUERADE_FOLLOWS | MASQUERADE_HAS_EXEMPTIONS | MASQUERADE_LIMITED))
		return;
	note->source = request->original.source;
	note->destination = request->original.destination;
	note->ifindex = ifindex;
	note->noted = time_now() >> 20;
	note->version = version;
	note->rule = *rule;
	note->rule.address = request->reply.destination;
}

/* What was noted less than a second ago of the addresses of `original`, and still holds, or NULL. */
static __always_inline const struct masquerade_note *masquerade_note_find(const struct tuple *original, __u32 ifindex,
									  __u32 version, __u64 now)
{
	const struct masquerade_note *note = masquerade_note_at(original);

	return note && note_is_fresh(note->noted, now) && note->ifindex == ifindex && note->version == version &&
			       address_equal(&note->source, &original->source) &&
			       address_equal(&note->destination, &original->destination)
		       ? note
		       : NULL;
}

/* Whether the address that the request is to leave with has gone: nothing would come back. A container that comes to a
 * published address is seen under that. */
static __always_inline bool request_is_homeless(struct __sk_buff *skb, struct scratch *scratch)
{
	const struct flow_request *request = &scratch->request;

	return !address_equal(&request->reply.destination, &request->original.destination) &&
	       address_is_gone(skb, scratch, &request->original.destination, &request->reply.destination);
}

/* Notes the address that the request is to leave with, unless it hairpins; or -1 when that address has gone. A function of its
 * own for the sake of its caller's stack. */
__noinline int masquerade_confirm(struct __sk_buff *skb, const struct masquerade *rule, bool hairpins, __u32 version)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || !rule || request_is_homeless(skb, scratch))
		return -1;
	if (!hairpins)
		masquerade_note_write(&scratch->request, rule, skb->ifindex, version);
	return 0;
}

/* What replies to the container are, but for whom they are sent to. */
static __always_inline void request_set_server(struct flow_request *request)
{
	request->reply.source = request->original.destination;
	tuple_set_ports(&request->reply, request->original.protocol, request->original.destination_port,
			request->original.source_port);
}

/* What the rule says of the flow, but for its address. */
static __always_inline void request_set_masquerade(struct flow_request *request, const struct masquerade *rule)
{
	request_set_ports(request, rule);
	request->mapping_id = rule->id;
	request->flags = FLOW_HOST_PORT;
	if (rule->flags & MASQUERADE_ACCEPT_ANY)
		request->flags |= FLOW_ACCEPTS_ANY;
	request->parent = SLOT_NONE;
}

/* Turns a flow's tuples into those of its pattern: of all its destinations, or (`address` given) of all ports of one. */
static __always_inline void request_set_pattern(struct flow_request *request, const struct address *address)
{
	if (address)
		request->original.destination = *address;
	else
		address_set_any(&request->original.destination, address_is_ipv4(&request->original.source));
	request->reply.source = request->original.destination;
	request->original.destination_port = 0;
	request->reply.source_port = 0;
}

/* From now on the request can have the pattern's port only. */
static __always_inline void request_bind(struct flow_request *request, const struct flow_reference *pattern)
{
	request->reply.destination_port = pattern->flow->reply_ends.destination_port;
	request->first_port = bpf_ntohs(request->reply.destination_port);
	request->last_port = request->first_port;
	request->parent = entry_slot(pattern->entry);
}

/* Whether the pattern is what the request's rule would make: not if it is of a rule before, if this host's address is another
 * one now, or if a socket of this host has bound the port since. */
__noinline int pattern_holds(struct __sk_buff *skb, __u32 slot, const struct flow_request *request)
{
	struct scratch *scratch = map_only_element(&scratches);
	const struct flow *pattern = flow_at(slot);

	if (!scratch || !pattern || !request)
		return 0;
	flow_tuple(pattern, slot, DIRECTION_REPLY, &scratch->candidate);
	return pattern->original.mapping_id == request->mapping_id &&
	       address_equal(&scratch->candidate.destination, &request->reply.destination) &&
	       !host_socket_takes(skb, &scratch->candidate);
}

/* Finds the pattern of the request as it stands, or makes it. */
static __always_inline enum reason pattern_find_or_make(struct __sk_buff *skb, struct flow_request *request,
							struct flow_reference *pattern)
{
	enum reason reason;

	if (flow_find(&request->original, pattern)) {
		if (pattern_holds(skb, entry_slot(pattern->entry), request))
			return REASON_NONE;
		flow_reference_end(pattern);
	}
	request->flags |= FLOW_PATTERN;
	reason = flow_create(skb);
	request->flags &= ~FLOW_PATTERN;
	if (reason != REASON_NONE && reason != REASON_FLOW_RACE)
		return reason;
	return flow_find(&request->original, pattern) ? REASON_NONE : REASON_FLOW_RACE;
}

/* The same, if it is finished. Whoever is making it may find that another CPU has made one, and take it back, port and all. */
static __always_inline enum reason pattern_obtain(struct __sk_buff *skb, struct flow_request *request,
						  struct flow_reference *pattern)
{
	enum reason reason = pattern_find_or_make(skb, request, pattern);

	if (reason == REASON_NONE && READ_ONCE(pattern->flow->state.phase) == FLOW_DEAD)
		return REASON_FLOW_RACE;
	return reason;
}

/* Gives the request the external port of its source, and notes which address it sends to where that matters. */
__noinline int masquerade_bind(struct __sk_buff *skb, __u32 rule_flags)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_reference pattern;
	enum reason reason;

	if (!scratch)
		return REASON_TABLE_FULL;
	scratch->unbound = scratch->request.original;
	request_set_pattern(&scratch->request, NULL);
	reason = pattern_obtain(skb, &scratch->request, &pattern);
	if (reason == REASON_NONE) {
		request_bind(&scratch->request, &pattern);
		if (rule_flags & MASQUERADE_ACCEPT_CONTACTED) {
			request_set_pattern(&scratch->request, &scratch->unbound.destination);
			reason = pattern_obtain(skb, &scratch->request, &pattern);
			if (reason == REASON_NONE)
				scratch->request.parent = entry_slot(pattern.entry);
		}
	}
	scratch->request.original = scratch->unbound;
	scratch->request.reply.source = scratch->unbound.destination;
	scratch->request.reply.source_port = scratch->unbound.destination_port;
	return reason;
}

/* The rule that made the pattern; NULL when it is not there any more: a pattern that a packet has made while its rule went lets
 * nobody in. */
static __always_inline struct masquerade *pattern_rule(const struct flow_reference *pattern)
{
	struct address source = {};
	struct masquerade *rule;

	flow_source(pattern->flow, entry_slot(pattern->entry), &source);
	rule = masquerade_find(&source);
	return rule && rule->id == pattern->flow->original.mapping_id ? rule : NULL;
}

/* What a packet finds at the external port that it is sent to. */
enum endpoint {
	ENDPOINT_NONE,
	ENDPOINT_CLOSED, /* to this sender */
	ENDPOINT_OPEN,
};

/* Finds the pattern of the external port that `tuple` is sent to: that of its sender's address, or of anybody. */
static __always_inline enum endpoint endpoint_find(struct tuple *tuple, struct flow_reference *pattern)
{
	tuple->source_port = 0;
	if (flow_find(tuple, pattern) && flow_flags(pattern->flow) & FLOW_PATTERN)
		return ENDPOINT_OPEN;
	address_set_any(&tuple->source, address_is_ipv4(&tuple->destination));
	if (!flow_find(tuple, pattern) || !(flow_flags(pattern->flow) & FLOW_PATTERN))
		return ENDPOINT_NONE;
	return flow_flags(pattern->flow) & FLOW_ACCEPTS_ANY ? ENDPOINT_OPEN : ENDPOINT_CLOSED;
}

/* Whether the request in this CPU's scratch is for an external port of a container, and for that alone: a socket of this host
 * that has the port by now goes first, and so does whoever has the address. An echo is the host's. */
__noinline int endpoint_is_addressed(struct __sk_buff *skb)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_reference pattern;

	if (!scratch || protocol_is_icmp(scratch->request.original.protocol))
		return false;
	scratch->candidate = scratch->request.original;
	return endpoint_find(&scratch->candidate, &pattern) != ENDPOINT_NONE && pattern_rule(&pattern) &&
	       !host_socket_takes(skb, &scratch->request.original) &&
	       route_locality(skb, &scratch->request.original) == LOCALITY_HOST;
}

/* Leads the request, which has its external port already, to the container that it is for (RFC 4787, REQ-9). That one is asked
 * whether it lets the address in that it will see. */
__noinline int hairpin_turn(void)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_reference pattern;

	if (!scratch)
		return REASON_FILTERED;
	scratch->candidate = scratch->request.original;
	scratch->candidate.source = scratch->request.reply.destination;
	if (endpoint_find(&scratch->candidate, &pattern) != ENDPOINT_OPEN)
		return REASON_FILTERED;
	flow_source(pattern.flow, entry_slot(pattern.entry), &scratch->request.reply.source);
	scratch->request.reply.source_port = pattern.flow->original_ends.source_port;
	scratch->request.flags |= FLOW_TO_ENDPOINT;
	return REASON_NONE;
}

/* Takes the flow's places and its external port, and for a hairpin the way to the other container. */
static __always_inline enum reason masquerade_prepare(struct __sk_buff *skb, struct flow_request *request,
						      const struct masquerade *rule, bool hairpins)
{
	enum reason reason = rule->flags & MASQUERADE_LIMITED ? limits_take() : REASON_NONE;

	if (reason != REASON_NONE)
		return reason;
	/* Also where the hairpin is refused: now the other container may come in, as when both send to each other. */
	if (rule->flags & MASQUERADE_ENDPOINT_INDEPENDENT)
		reason = masquerade_bind(skb, rule->flags);
	if (reason == REASON_NONE && hairpins)
		reason = hairpin_turn();
	if (reason != REASON_NONE)
		limits_return(&request->original.source, request->mapping_id, request->flags);
	return reason;
}

/* Makes the flow that a container begins; the request in this CPU's scratch has its original tuple and the MAC address.
 * REASON_NONE: it can be found now; REASON_UNPUBLISHED: its source is not masqueraded. */
__noinline int masquerade_begin(struct __sk_buff *skb)
{
	struct settings *current = map_only_element(&settings);
	struct scratch *scratch = map_only_element(&scratches);
	struct masquerade *rule;
	bool hairpins = false;
	enum reason reason;
	__u32 version;

	if (!scratch || !current || !current->has_masquerades)
		return REASON_UNPUBLISHED;
	version = READ_ONCE(current->mappings_version);
	rule = masquerade_find(&scratch->request.original.source);
	if (!rule || masquerade_exempts(rule, &scratch->request.original.destination))
		return REASON_UNPUBLISHED;
	reason = masquerade_address(skb, &scratch->request.original, rule, &scratch->request.reply.destination);
	if (reason == REASON_UNPUBLISHED && current->has_endpoints && endpoint_is_addressed(skb)) {
		hairpins = true;
		if (rule->flags & MASQUERADE_FOLLOWS) /* no route tells which address: this is one of them */
			scratch->request.reply.destination = scratch->request.original.destination;
	} else if (reason != REASON_NONE) {
		return reason;
	}
	if (masquerade_confirm(skb, rule, hairpins, version))
		return REASON_NO_ADDRESS;
	request_set_server(&scratch->request);
	request_set_masquerade(&scratch->request, rule);
	reason = masquerade_prepare(skb, &scratch->request, rule, hairpins);
	if (reason == REASON_NONE)
		reason = flow_create(skb);
	if (reason == REASON_NONE && READ_ONCE(current->mappings_version) != version)
		return flow_withdraw(&scratch->request.original);
	return reason;
}

/* Makes the flow that a packet from outside begins towards the external port of a container; the request in this CPU's scratch
 * has the packet's tuple as the original one. Whom the filter keeps out gets no answer: a RST of the host would end what two
 * hosts begin with each other at once (RFC 5382, REQ-4). */
__noinline int open_port_begin(struct __sk_buff *skb)
{
	struct settings *current = map_only_element(&settings);
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_reference pattern;
	struct flow_request *request;
	struct masquerade *rule;
	enum reason reason;
	__u32 version;

	if (!scratch || !current || !current->has_endpoints)
		return REASON_UNPUBLISHED;
	version = READ_ONCE(current->mappings_version);
	request = &scratch->request;
	if (address_is_no_host(&request->original.source) || address_is_link_local(&request->original.source) ||
	    !endpoint_is_addressed(skb))
		return REASON_UNPUBLISHED;
	if (source_is_of_host(skb, &request->original))
		return REASON_MARTIAN_SOURCE;
	scratch->candidate = request->original;
	if (endpoint_find(&scratch->candidate, &pattern) != ENDPOINT_OPEN)
		return REASON_FILTERED;
	rule = pattern_rule(&pattern);
	if (!rule)
		return REASON_UNPUBLISHED;
	request->reply = request->original;
	flow_source(pattern.flow, entry_slot(pattern.entry), &request->original.source);
	request->original.source_port = pattern.flow->original_ends.source_port;
	request->original.destination = request->reply.source;
	request->original.destination_port = request->reply.source_port;
	request->mapping_id = pattern.flow->original.mapping_id;
	request->flags = FLOW_HOST_PORT;
	request_bind(request, &pattern);
	if (flow_exists(&request->original))
		return REASON_FLOW_RACE;
	reason = rule->flags & MASQUERADE_LIMITED ? limits_take() : REASON_NONE;
	if (reason == REASON_NONE)
		reason = flow_create(skb);
	if (reason == REASON_NONE && READ_ONCE(current->mappings_version) != version)
		return flow_withdraw(&request->original);
	return reason;
}

#endif
