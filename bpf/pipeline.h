/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The way of a packet: parse → find its flow, or make one → rewrite → forward. docs/packet-walk.md tells the same story. */
#ifndef FASTNAT_PIPELINE_H
#define FASTNAT_PIPELINE_H

#include "nat/cross.h"
#include "nat/cut.h"
#include "nat/fragment.h"
#include "nat/icmp.h"
#include "nat/options.h"
#include "nat/report.h"
#include "nat/sweep.h"
#include "net/fragment.h"
#include "net/reset.h"

/* Copies what this direction's packets become: the other half's tuple, reversed. */
static __always_inline void rewrite_from_flow(struct rewrite *rewrite, const struct flow_half *half,
					      const struct flow_half *other)
{
	rewrite->source = other->tuple.destination;
	rewrite->destination = other->tuple.source;
	rewrite->source_port = other->tuple.destination_port;
	rewrite->destination_port = other->tuple.source_port;
	rewrite->address_delta = half->address_delta;
	rewrite->port_delta = half->port_delta;
}

/* XDP: only what needs no more than the flow. Everything out of the ordinary is TC's. */
static __always_inline bool xdp_packet_is_ordinary(struct packet *packet, const struct hop *hop, const __u8 *arrival_mac,
						   __u64 now)
{
	struct ethhdr *ethernet = packet->data;

	if ((void *)(ethernet + 1) > packet->data_end)
		return false;
	/* Not passed by the device's own filter yet: to be ours, the frame goes where this flow's frames always went. */
	if (!mac_equal(ethernet->h_dest, arrival_mac))
		return false;
	return !(packet->tcp_flags & TCP_SYN) && hop_is_fresh(hop, now) && hop->next_hop->flags & NEXT_HOP_XDP &&
	       packet->ip_length <= hop->next_hop->mtu && !packet_ttl_is_used_up(packet) && !packet_checksum_is_partial(packet);
}

static __always_inline enum verdict forward_xdp(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	struct flow_half *other = flow_half(reference->flow, !direction);
	struct rewrite rewrite;
	struct hop hop;

	hop_find(half, &hop);
	if (!xdp_packet_is_ordinary(packet, &hop, flow_arrival(half, other), now))
		return VERDICT_PASS;
	rewrite_from_flow(&rewrite, half, other);
	if (!next_hop_read(hop.next_hop, &rewrite.next_hop) || !flow_reference_holds(reference))
		return VERDICT_PASS;
	if (!packet_rewrite(packet, &rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	flow_track(reference, half, packet, direction);
	flow_account(half, packet, now);
	packet->action = bpf_redirect_map(&xdp_outputs, rewrite.next_hop.ifindex, XDP_DROP);
	if (packet->action == XDP_DROP) /* the output has gone since its route was looked up */
		return packet_refuse(packet, REASON_NO_ROUTE);
	return VERDICT_REDIRECTED;
}

/* A socket of this host has a port that a container had first (nat/host_socket.h): the port alone changes, and the stack goes
 * on with the packet, out of the host or up to the socket. */
static __always_inline enum verdict relabel(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	struct rewrite rewrite;

	rewrite_from_flow(&rewrite, half, flow_half(reference->flow, !direction));
	if (!flow_reference_holds(reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	flow_track(reference, half, packet, direction);
	flow_account(half, packet, now);
	if (!rewrite_ports(packet, &rewrite) || !rewrite_checksum(packet, &rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	return VERDICT_PASS;
}

/* What XDP does not look at, or the next hop has not: the stack would refuse such a packet. */
static __always_inline enum reason tc_packet_refused(struct packet *packet, const struct next_hop *next_hop)
{
	if (packet_ttl_is_used_up(packet))
		return REASON_TTL_EXPIRED;
	return packet_wire_length(packet) > next_hop->mtu ? REASON_TOO_BIG : REASON_NONE;
}

/* The stages that may look up routes; others hand packets to them. */
static __always_inline bool packet_may_ask(const struct packet *packet)
{
	return packet->stage == STAGE_ROUTE || packet->stage == STAGE_FRAGMENT || packet->stage == STAGE_ECHO;
}

/* A flow whose next hop is fresh needs nothing but itself; STAGE_ROUTE looks up the route of others. */
static __always_inline enum verdict forward_tc(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	struct route *route = NULL;
	struct rewrite rewrite;
	enum reason reason;
	bool cached, cut = false;
	struct hop hop;

	hop_find(half, &hop);
	rewrite_from_flow(&rewrite, half, flow_half(reference->flow, !direction));
	cached = hop_is_fresh(&hop, now) && next_hop_read(hop.next_hop, &rewrite.next_hop);
	if (!flow_reference_holds(reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	if (!cached) {
		if (!packet_may_ask(packet))
			return packet_continue(packet, STAGE_ROUTE);
		if (reference->flow->life.flags & FLOW_OF_HOST)
			return relabel(packet, reference, now);
		if (flow_is_cut(reference->flow) && !(packet->tcp_flags & TCP_RST))
			return packet_continue(packet, STAGE_RESET);
		if (reference->flow->life.flags & FLOW_TRANSLATES)
			return packet_continue(packet, STAGE_TRANSLATE);
		if (reference->flow->life.flags & FLOW_PATTERN) /* only a source of 0.0.0.0:0 or [::]:0 finds one */
			return packet_refuse(packet, REASON_MARTIAN_SOURCE);
		route = route_of(packet, &rewrite);
		if (!route)
			return packet_refuse(packet, REASON_NO_ROUTE);
		next_hop_copy(&rewrite.next_hop, &route->next_hop);
		next_hop_store(hop.next_hop, &route->next_hop, reference);
		if (!flow_is_cut(reference->flow)) /* its packets come here, every one */
			*hop.refreshed = now >> 20;
	}
	reason = tc_packet_refused(packet, &rewrite.next_hop);
	if (reason == REASON_TOO_BIG && packet_may_be_cut(packet)) {
		if (packet->stage != STAGE_FRAGMENT)
			return packet_continue(packet, STAGE_FRAGMENT);
		cut = true;
	} else if (reason != REASON_NONE) {
		return packet_report(packet, reason, rewrite.next_hop.mtu);
	}
	flow_track(reference, half, packet, direction);
	flow_account(half, packet, now);
	flow_note_arrival(half, packet);
	if (!packet_rewrite(packet, &rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	if (cut)
		return packet_cut(packet, &rewrite.next_hop);
	if (route)
		return redirect_to_neighbour(packet, route);
	packet->action = bpf_redirect(rewrite.next_hop.ifindex, 0);
	return VERDICT_REDIRECTED;
}

/* The longest packet of this family that the next hop takes in the other: an IPv6 header is 20 bytes longer than an IPv4 one.
 */
static __always_inline void packet_allow_growth(struct packet *packet, struct next_hop *next_hop)
{
	__u32 difference = sizeof(struct ipv6hdr) - sizeof(struct iphdr);

	if (packet->is_ipv4 && !packet_is_gso(packet)) /* the kernel makes the segments of GSO packets shorter */
		next_hop->mtu -= difference;
	else if (!packet->is_ipv4 && next_hop->mtu <= MTU_UNKNOWN - difference)
		next_hop->mtu += difference;
}

/* STAGE_TRANSLATE: between families. Nothing is cached: every packet asks for its route. */
static __always_inline enum verdict forward_translated(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	struct rewrite rewrite;
	struct route *route;
	enum reason reason;

	rewrite_from_flow(&rewrite, half, flow_half(reference->flow, !direction));
	if (!flow_reference_holds(reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	if (!packet_is_translatable(packet))
		return packet_refuse(packet, REASON_UNTRANSLATABLE);
	route = route_of(packet, &rewrite);
	if (!route)
		return packet_refuse(packet, REASON_NO_ROUTE);
	next_hop_copy(&rewrite.next_hop, &route->next_hop);
	packet_allow_growth(packet, &rewrite.next_hop);
	reason = tc_packet_refused(packet, &rewrite.next_hop);
	if (reason != REASON_NONE)
		return packet_report(packet, reason, rewrite.next_hop.mtu);
	flow_track(reference, half, packet, direction);
	flow_account(half, packet, now);
	if (!packet_translate(packet, &rewrite))
		return packet_refuse(packet, REASON_UNTRANSLATABLE);
	return redirect_to_neighbour(packet, route);
}

static __always_inline enum verdict forward(struct packet *packet, const struct flow_reference *reference)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	if (packet->stage == STAGE_TRANSLATE)
		return forward_translated(packet, reference, now);
	if (packet->hook == HOOK_XDP)
		return forward_xdp(packet, reference, now);
	return forward_tc(packet, reference, now);
}

/* For a packet of no known flow: begins one, where a mapping or masquerade says so. REASON_NONE, or what keeps the packet from
 * being forwarded. */
static __always_inline enum reason begin(struct packet *packet)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct ethhdr *ethernet = packet->data;
	enum reason reason;

	if (!scratch || (void *)(ethernet + 1) > packet->data_end)
		return REASON_MALFORMED;
	__builtin_memcpy(scratch->request.arrival_mac, ethernet->h_dest, ETH_ALEN);
	scratch->request.original = *packet->tuple;
	scratch->request.reply = *packet->tuple; /* for its protocol */
	if (packet->side == SIDE_HOST)
		return host_begin(packet->context);
	reason = mapping_begin(packet->context, packet->side);
	if (packet->side == SIDE_UPLINK)
		return reason == REASON_UNPUBLISHED ? open_port_begin(packet->context) : reason;
	return reason == REASON_UNPUBLISHED || reason == REASON_NOT_LOCAL ? masquerade_begin(packet->context) : reason;
}

/* Whether a flow of this host's addresses has lost its own: nothing would come back. The kernel's masquerade forgets such
 * flows, too. A container that has come to a published address is seen under that, whoever's it is: what answers is behind this
 * host. */
static __always_inline bool flow_is_homeless(struct packet *packet, const struct flow *flow, enum direction direction)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || !(flow->life.flags & FLOW_HOST_PORT) || direction != DIRECTION_ORIGINAL ||
	    address_equal(&flow->reply.tuple.destination, &flow->original.tuple.destination))
		return false;
	scratch->candidate.source = flow->reply.tuple.source;
	scratch->candidate.destination = flow->reply.tuple.destination;
	return route_locality(packet->context, &scratch->candidate) == LOCALITY_ELSEWHERE;
}

/* Whether the flow is over for this packet: its connection is, and the packet begins the next; or its address is. Where only a
 * RST says that the connection has ended, and the next one would have the same target, the flow goes on: the target knows which
 * of the two the packet belongs to. */
static __always_inline bool flow_is_over(struct packet *packet, const struct flow_reference *reference)
{
	enum direction direction = entry_direction(reference->entry);

	if (packet->stage == STAGE_TRANSLATE) /* STAGE_ROUTE has found that it is not */
		return false;
	if (flow_is_reused(reference->flow, packet, direction))
		return packet->stage != STAGE_ROUTE || !flow_is_in_doubt(reference->flow) ||
		       !mapping_still_leads(packet->tuple, reference->flow->original.mapping_id);
	return packet_may_ask(packet) && flow_is_homeless(packet, reference->flow, direction);
}

/* A packet from the middle of a connection or association is not ours: whoever carried it goes on. Nor is an echo that is for
 * this host. */
static __always_inline bool packet_may_begin(const struct packet *packet)
{
	if (packet->is_later_fragment)
		return false;
	if (packet_is_echo(packet))
		return packet->echo == ECHO_REQUEST && packet->side != SIDE_UPLINK;
	return !protocol_has_handshake(packet->tuple->protocol) || tcp_flags_begin(packet->tcp_flags);
}

/* Only TC begins flows. */
static __always_inline enum verdict forward_unknown(struct packet *packet)
{
	if (packet->hook == HOOK_XDP || !packet_may_begin(packet))
		return VERDICT_PASS;
	if (packet->side == SIDE_HOST && !host_packet_clashes(packet->tuple))
		return VERDICT_PASS;
	return packet_continue(packet, STAGE_ADMIT);
}

/* A first fragment tells those that follow where they go: with the flow of its ports, or up the stack. true: others were
 * waiting for it, and all come in again. */
static __always_inline bool fragment_announce(struct packet *packet, bool is_foreign)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || !packet->is_first_fragment || packet->side == SIDE_HOST)
		return false;
	fragment_note(scratch, packet->tuple, is_foreign);
	if (is_foreign && packet->side == SIDE_UPLINK) /* those that waited have gone up the stack already */
		return fragment_queue_drop(scratch), false;
	if (fragment_release(packet->context))
		return true;
	tc_packet_fetch(packet); /* the verifier does not know that nothing has changed */
	return false;
}

/* What is to be done with a fragment of a known flow before it is forwarded. VERDICT_CONTINUE: that is done. */
static __always_inline enum verdict fragment_enter(struct packet *packet)
{
	if (packet->is_tiny_fragment)
		return packet_refuse(packet, REASON_TINY_FRAGMENT);
	return fragment_announce(packet, false) ? VERDICT_TAKEN : VERDICT_CONTINUE;
}

/* A request and a reply can have the same tuple where the identifier is ECHO_PORT. */
static __always_inline bool echo_is_astray(const struct packet *packet, const struct flow_reference *reference)
{
	return packet_is_echo(packet) &&
	       (packet->echo == ECHO_REQUEST) != (entry_direction(reference->entry) == DIRECTION_ORIGINAL);
}

static __always_inline enum verdict forward_known(struct packet *packet, const struct flow_reference *reference)
{
	enum verdict verdict;

	if (packet->side == SIDE_HOST && !(reference->flow->life.flags & FLOW_OF_HOST))
		return VERDICT_PASS;
	if (echo_is_astray(packet, reference))
		return VERDICT_PASS;
	if (flow_is_over(packet, reference)) {
		if (packet_may_ask(packet))
			flow_reference_end(reference);
		if (packet->begun) /* with an address that was none of this host's from the beginning: the next would be no
				      better */
			return packet_refuse(packet, REASON_NO_ADDRESS);
		if (packet->hook == HOOK_TC && !packet_may_ask(packet))
			return packet_continue(packet, STAGE_ROUTE);
		return forward_unknown(packet);
	}
	if (packet->stage == STAGE_ATTACHED && packet_options_length(packet)) /* STAGE_ROUTE looks at them */
		return packet->hook == HOOK_XDP ? VERDICT_PASS : packet_continue(packet, STAGE_ROUTE);
	if (packet->stage == STAGE_FRAGMENT && reference->flow->life.flags & FLOW_TRANSLATES) {
		if (packet->begun)
			flow_reference_end(reference);
		return packet_refuse(packet, REASON_UNTRANSLATABLE);
	}
	if (packet->stage == STAGE_FRAGMENT && !(reference->flow->life.flags & FLOW_OF_HOST)) {
		verdict = fragment_enter(packet);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	if (packet->side != SIDE_HOST && packet_may_ask(packet) && packet_is_source_routed(packet))
		verdict = packet_refuse(packet, REASON_SOURCE_ROUTED);
	else
		verdict = forward(packet, reference);
	/* A flow whose first packet gets nowhere is not kept. */
	if (packet->begun && (verdict == VERDICT_DROP || (verdict == VERDICT_CONTINUE && packet->stage == STAGE_REPORT)))
		flow_reference_end(reference);
	return verdict;
}

/* A packet that is not ours goes up the stack, and so do the fragments behind it. */
static __always_inline enum verdict fragment_leave(struct packet *packet)
{
	if (!fragment_announce(packet, true))
		return VERDICT_PASS;
	packet->reason = REASON_NONE; /* counted when it comes in again */
	return VERDICT_TAKEN;
}

/* What a container is told of: no more connections just now. To clients from anywhere it would be an answer to any flood. */
static __always_inline bool refusal_is_reported(const struct packet *packet, enum reason reason)
{
	return packet->side == SIDE_CONTAINER &&
	       (reason == REASON_NO_FREE_PORT || reason == REASON_TABLE_FULL || reason == REASON_HALF_OPEN_FULL);
}

/* The stage that has the packet of a flow that has just been made. */
static __always_inline enum stage stage_after_admission(const struct packet *packet)
{
	if (packet->is_first_fragment)
		return STAGE_FRAGMENT;
	return protocol_is_icmp(packet->tuple->protocol) ? STAGE_ECHO : STAGE_ROUTE;
}

/* A flow that has gone again when its packet comes to it is begun anew so often. Without a bound, the packet would go round until
 * the kernel calls no more programs (33), and then up the stack untranslated. */
#define RACES_AT_MOST 2

/* STAGE_ADMIT: the flow, once made, is as any other; another stage goes on. In a race, another CPU was faster: its flow is as
 * good. */
static __always_inline enum verdict admit(struct packet *packet)
{
	enum reason reason = begin(packet);
	enum verdict verdict;

	if (reason == REASON_FLOW_RACE && packet->races++ == RACES_AT_MOST)
		return packet_refuse(packet, reason);
	if (refusal_is_reported(packet, reason)) /* RFC 5508, REQ-8 */
		return packet_report(packet, reason, 0);
	if (reason != REASON_NONE && reason != REASON_FLOW_RACE) {
		verdict = packet_refuse(packet, reason);
		return verdict == VERDICT_PASS ? fragment_leave(packet) : verdict;
	}
	packet->begun = reason == REASON_NONE;
	return packet_continue(packet, stage_after_admission(packet));
}

static __always_inline enum verdict forward_any(struct packet *packet)
{
	struct flow_reference reference;

	if (packet->stage == STAGE_ATTACHED ? flow_find_fast(packet->tuple, &reference) : flow_find(packet->tuple, &reference))
		return forward_known(packet, &reference);
	if (packet->begun)
		return packet_refuse(packet, REASON_FLOW_RACE);
	return forward_unknown(packet);
}

/* A later fragment gets its datagram's ports. VERDICT_CONTINUE: it has them. */
static __always_inline enum verdict fragment_complete(struct packet *packet)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || packet->side == SIDE_HOST) /* for a socket of this host, ports alone would change */
		return VERDICT_PASS;
	switch (fragment_recall(packet->context)) {
	case RECALL_OURS:
		packet->tuple->source_port = scratch->fragment_note.source_port;
		packet->tuple->destination_port = scratch->fragment_note.destination_port;
		return VERDICT_CONTINUE;
	case RECALL_FOREIGN:
		return VERDICT_PASS;
	case RECALL_WAITING:
		/* What may be the stack's goes there at once; from a container it would leave the host untranslated. */
		return packet_refuse(packet, packet->side == SIDE_UPLINK ? REASON_FRAGMENT : REASON_FRAGMENT_HELD);
	case RECALL_TAKEN:
		return VERDICT_TAKEN;
	default:
		return packet_refuse(packet, REASON_FRAGMENT_NO_ROOM);
	}
}

/* STAGE_FRAGMENT */
static __always_inline enum verdict forward_fragment(struct packet *packet)
{
	enum verdict verdict;

	if (packet->is_later_fragment) {
		verdict = fragment_complete(packet);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	verdict = forward_any(packet);
	if (verdict != VERDICT_PASS)
		return verdict;
	if (packet->is_later_fragment) /* its first fragment had a flow */
		return packet_refuse(packet, REASON_FLOW_RACE);
	return fragment_leave(packet);
}

/* Other programs leave fragments to STAGE_FRAGMENT, XDP to TC. */
static __always_inline enum parse_result pipeline_parse(struct packet *packet)
{
	enum parse_result result = packet_parse(packet);
	struct scratch *scratch;

	if (result != PARSE_FRAGMENT ||
	    (packet->stage != STAGE_FRAGMENT && packet->stage != STAGE_ADMIT && packet->stage != STAGE_REPORT))
		return result;
	scratch = map_only_element(&scratches);
	return scratch ? fragment_parse(packet, &scratch->fragment_key) : PARSE_FOREIGN;
}

static __always_inline void address_forget(struct address *address, __u32 unknown)
{
#pragma clang loop unroll(full)
	for (int i = 0; i < 4; i++)
		address->words[i] = verifier_forget(address->words[i], unknown);
}

/* Has the verifier forget what the parser has found: what follows is then proved once for any packet, and not for each kind
 * that the parser tells apart. */
static __always_inline void packet_forget_kind(struct packet *packet)
{
	__u32 unknown = ((struct __sk_buff *)packet->context)->len;

	address_forget(&packet->tuple->source, unknown);
	address_forget(&packet->tuple->destination, unknown);
	packet->tuple->protocol = verifier_forget(packet->tuple->protocol, unknown);
	packet->transport_offset = verifier_forget(packet->transport_offset, unknown);
	packet->headers_length = verifier_forget(packet->headers_length, unknown);
	packet->ip_length = verifier_forget(packet->ip_length, unknown);
	packet->tcp_flags = verifier_forget(packet->tcp_flags, unknown);
	packet->echo = verifier_forget(packet->echo, unknown);
	packet->is_ipv4 = verifier_forget(packet->is_ipv4, unknown);
	packet->without_checksum = verifier_forget(packet->without_checksum, unknown);
	packet->is_first_fragment = verifier_forget(packet->is_first_fragment, unknown);
	packet->is_later_fragment = verifier_forget(packet->is_later_fragment, unknown);
	packet->is_tiny_fragment = verifier_forget(packet->is_tiny_fragment, unknown);
	tc_packet_fetch(packet);
}

/* An ICMP error. The host's own go out as they are. */
static __always_inline enum verdict forward_error(struct packet *packet)
{
	if (packet->side == SIDE_HOST || !packet_is_for_host(packet))
		return VERDICT_PASS;
	if (packet->stage == STAGE_TRANSLATE)
		return error_cross(packet);
	return packet->stage == STAGE_ICMP ? error_forward(packet) : packet_continue(packet, STAGE_ICMP);
}

static __always_inline bool stage_takes_echo(enum stage stage)
{
	return stage == STAGE_ECHO || stage == STAGE_ADMIT || stage == STAGE_FRAGMENT || stage == STAGE_REPORT;
}

/* Fragments follow a first one, wherever that goes. */
static __always_inline enum verdict forward_foreign(struct packet *packet)
{
	if (packet->stage != STAGE_FRAGMENT || !packet->is_first_fragment || !packet_is_for_host(packet))
		return VERDICT_PASS;
	return fragment_leave(packet);
}

static __always_inline enum verdict pipeline(struct packet *packet)
{
	packet->reason = REASON_NONE;
	switch (pipeline_parse(packet)) {
	case PARSE_MALFORMED:
		return packet_refuse(packet, REASON_MALFORMED);
	case PARSE_FRAGMENT:
		return packet->hook == HOOK_XDP ? VERDICT_PASS : packet_continue(packet, STAGE_FRAGMENT);
	case PARSE_FOREIGN:
		return forward_foreign(packet);
	case PARSE_ERROR:
		return forward_error(packet);
	case PARSE_ECHO:
		if (packet->stage == STAGE_ATTACHED)
			return packet_continue(packet, STAGE_ECHO);
		if (!stage_takes_echo(packet->stage)) /* never */
			return VERDICT_PASS;
		break;
	case PARSE_OK:
		break;
	}
	if (packet->stage == STAGE_ICMP)
		return VERDICT_PASS;
	if (packet_may_ask(packet))
		packet_forget_kind(packet);
	if (packet->stage == STAGE_REPORT)
		return report(packet);
	if (packet->side != SIDE_HOST && !packet_is_for_host(packet))
		return VERDICT_PASS;
	if (packet->stage == STAGE_RESET)
		return packet_reset(packet) ? packet_continue(packet, STAGE_ROUTE) : VERDICT_DROP;
	if (packet->stage == STAGE_ADMIT)
		return admit(packet);
	return packet->stage == STAGE_FRAGMENT ? forward_fragment(packet) : forward_any(packet);
}

#endif
