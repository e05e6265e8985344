/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Sends a packet of a flow on: with a fresh next hop, or one that is looked up for it; translated, relabelled, or cut. */
#ifndef FASTNAT_PIPELINE_FORWARD_H
#define FASTNAT_PIPELINE_FORWARD_H

#include "../nat/cross.h"
#include "../nat/cut.h"
#include "../nat/icmp.h"

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

/* The same for a packet of a known kind: an IPv4 one leaves the other half's cache lines alone. */
static __always_inline void rewrite_of_packet(struct rewrite *rewrite, const struct packet *packet,
					      const struct flow_half *half, const struct flow_half *other)
{
	const struct ipv4_ends *ends = flow_half_becomes(half);

	if (!packet->is_ipv4 || packet->stage != STAGE_ATTACHED) {
		rewrite_from_flow(rewrite, half, other);
		return;
	}
	address_set_ipv4(&rewrite->source, ends->source);
	address_set_ipv4(&rewrite->destination, ends->destination);
	rewrite->source_port = ends->source_port;
	rewrite->destination_port = ends->destination_port;
	rewrite->address_delta = half->address_delta;
	rewrite->port_delta = half->port_delta;
}

/* XDP: only what needs no more than the flow. Everything out of the ordinary is TC's. */
static __always_inline bool xdp_packet_is_ordinary(struct packet *packet, const struct hop *hop, const __u8 *arrival_mac)
{
	struct ethhdr *ethernet = packet->data;

	if ((void *)(ethernet + 1) > packet->data_end)
		return false;
	/* Not passed by the device's own filter yet: to be ours, the frame goes where this flow's frames always went. */
	if (!mac_equal(ethernet->h_dest, arrival_mac))
		return false;
	return !(packet->tcp_flags & TCP_SYN) && hop->next_hop->flags & NEXT_HOP_XDP &&
	       packet->ip_length <= hop->next_hop->mtu && !packet_ttl_is_used_up(packet) && !packet_checksum_is_partial(packet);
}

static __always_inline enum verdict redirect_frame(struct packet *packet, const struct next_hop *next_hop)
{
	packet->action = bpf_redirect_map(&xdp_outputs, next_hop->ifindex, XDP_DROP);
	if (packet->action == XDP_DROP) /* the output has gone since its route was looked up */
		return packet_refuse(packet, REASON_NO_ROUTE);
	return VERDICT_REDIRECTED;
}

static __always_inline enum verdict forward_xdp(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	struct flow_half *other = flow_half(reference->flow, !direction);
	struct rewrite rewrite;
	struct hop hop;

	hop_find(half, &hop);
	rewrite_of_packet(&rewrite, packet, half, other);
	if (!hop_is_fresh(&hop, now) && !hop_recall(&hop, packet, &rewrite, reference, now))
		return VERDICT_PASS;
	if (!xdp_packet_is_ordinary(packet, &hop, flow_arrival(half, other)))
		return VERDICT_PASS;
	if (!next_hop_read(hop.next_hop, &rewrite.next_hop) || !flow_reference_holds(reference))
		return VERDICT_PASS;
	if (!packet_rewrite(packet, &rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	flow_track(reference, half, packet, direction);
	flow_account(half, packet, now);
	return redirect_frame(packet, &rewrite.next_hop);
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
	bool cached, cut = false, by_neighbour = false;
	struct hop hop;

	hop_find(half, &hop);
	rewrite_of_packet(&rewrite, packet, half, flow_half(reference->flow, !direction));
	cached = (hop_is_fresh(&hop, now) || hop_recall(&hop, packet, &rewrite, reference, now)) &&
		 next_hop_read(hop.next_hop, &rewrite.next_hop);
	if (!flow_reference_holds(reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	if (!cached) {
		if (!packet_may_ask(packet))
			return packet_continue(packet, STAGE_ROUTE);
		if (reference->flow->flags & FLOW_OF_HOST)
			return relabel(packet, reference, now);
		if (flow_is_cut(reference->flow) && !(packet->tcp_flags & TCP_RST))
			return packet_continue(packet, STAGE_RESET);
		if (reference->flow->flags & FLOW_TRANSLATES)
			return packet_continue(packet, STAGE_TRANSLATE);
		if (reference->flow->flags & FLOW_PATTERN) /* only a source of 0.0.0.0:0 or [::]:0 finds one */
			return packet_refuse(packet, REASON_MARTIAN_SOURCE);
		route = route_of(packet, &rewrite);
		if (!route)
			return packet_refuse(packet, REASON_NO_ROUTE);
		by_neighbour = hop_wants_neighbour(&hop, &route->next_hop, packet->begun, now);
		hop_note_neighbour(&hop, &route->next_hop, by_neighbour, now);
		next_hop_copy(&rewrite.next_hop, &route->next_hop);
		next_hop_store(hop.next_hop, &route->next_hop, reference);
		route_note_write(packet, &rewrite, now);
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
	return by_neighbour ? redirect_to_neighbour(packet, route) : redirect_to_output(packet, &rewrite.next_hop);
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
	__u64 now = time_now();

	if (packet->stage == STAGE_TRANSLATE)
		return forward_translated(packet, reference, now);
	if (packet->hook == HOOK_XDP)
		return forward_xdp(packet, reference, now);
	return forward_tc(packet, reference, now);
}

#endif
