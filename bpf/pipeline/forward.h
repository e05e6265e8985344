/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Sends a packet of a flow on: with a fresh next hop, or one that is looked up for it; translated, relabelled, or cut. */
#ifndef FASTNAT_PIPELINE_FORWARD_H
#define FASTNAT_PIPELINE_FORWARD_H

#include "../nat/cross.h"
#include "../nat/cut.h"
#include "../nat/icmp.h"
#include "train.h"

/* What becomes of sums over the packet's addresses and ports. `is_ipv4`: before and after. */
static __always_inline void rewrite_set_deltas(struct rewrite *rewrite, const struct tuple *tuple, bool is_ipv4)
{
	rewrite->address_delta = checksum_delta(checksum_sum_addresses(&tuple->source, &tuple->destination, is_ipv4),
						checksum_sum_addresses(&rewrite->source, &rewrite->destination, is_ipv4));
	rewrite->port_delta =
		ports_delta(tuple->source_port + tuple->destination_port, rewrite->source_port + rewrite->destination_port);
}

/* What a packet of the flow becomes: the other direction's tuple, reversed. */
static __always_inline bool rewrite_from_flow(struct rewrite *rewrite, const struct packet *packet,
					      const struct flow_reference *reference)
{
	enum direction other = !entry_direction(reference->entry);
	const struct ipv4_ends *ends = flow_ends(reference->flow, other);
	const struct flow_addresses *addresses;

	rewrite->source_port = ends->destination_port;
	rewrite->destination_port = ends->source_port;
	if (packet->in_lane || !flow_is_wide(reference->flow)) {
		address_set_ipv4(&rewrite->source, ends->destination);
		address_set_ipv4(&rewrite->destination, ends->source);
		rewrite_set_deltas(rewrite, packet->tuple, true);
		return true;
	}
	addresses = flow_addresses_at(entry_slot(reference->entry));
	if (!addresses) /* never */
		return false;
	rewrite->source = flow_addresses_of(addresses, other)[1];
	rewrite->destination = flow_addresses_of(addresses, other)[0];
	rewrite_set_deltas(rewrite, packet->tuple, false);
	return true;
}

/* XDP: only what needs no more than the flow. Everything out of the ordinary is TC's. */
static __always_inline bool xdp_packet_is_ordinary(struct packet *packet, const struct next_hop *next_hop,
						   const struct shared_hop *arrival)
{
	struct ethhdr *ethernet = packet->data;

	/* Not passed by the device's own filter yet: to be ours, the frame goes where this flow's frames always went. */
	if (!mac_equal_wide(ethernet->h_dest, arrival->next_hop.source_mac))
		return false;
	return !(packet->tcp_flags & TCP_SYN) && next_hop->flags & NEXT_HOP_XDP && packet->ip_length <= next_hop->mtu &&
	       !packet_ttl_is_used_up(packet) && !packet_checksum_is_partial(packet);
}

static __always_inline enum verdict forward_xdp(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	struct hop hop = hop_of(reference->flow, direction);
	struct rewrite rewrite;

	if (!rewrite_from_flow(&rewrite, packet, reference))
		return VERDICT_PASS;
	if (!hop_is_fresh(&hop, now) && !hop_recall(&hop, packet, &rewrite, reference, now))
		return VERDICT_PASS;
	if (!xdp_packet_is_ordinary(packet, &hop.shared->next_hop, flow_arrival(reference->flow, direction)))
		return VERDICT_PASS;
	if (!next_hop_read(&hop.shared->next_hop, &rewrite.next_hop) || !flow_reference_holds(reference))
		return VERDICT_PASS;
	if (!packet_rewrite(packet, &rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	flow_track(reference, half, packet, direction);
	flow_account(half, packet, now);
	if (packet->train)
		train_begin(packet->train, packet, hop.shared, &rewrite, flow_arrival(reference->flow, direction));
	return redirect_frame(packet, rewrite.next_hop.ifindex);
}

/* A socket of this host has a port that a container had first (nat/host_socket.h): the port alone changes, and the stack goes
 * on with the packet, out of the host or up to the socket. */
static __always_inline enum verdict relabel(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	struct rewrite rewrite;

	if (!rewrite_from_flow(&rewrite, packet, reference) || !flow_reference_holds(reference))
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
	struct hop hop = hop_of(reference->flow, direction);
	bool cached, cut = false, by_neighbour = false;
	struct route *route = NULL;
	struct rewrite rewrite;
	enum reason reason;

	if (!rewrite_from_flow(&rewrite, packet, reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	cached = (hop_is_fresh(&hop, now) || hop_recall(&hop, packet, &rewrite, reference, now)) &&
		 next_hop_read(&hop.shared->next_hop, &rewrite.next_hop);
	if (!flow_reference_holds(reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	if (!cached) {
		if (!packet_may_ask(packet))
			return packet_continue(packet, STAGE_ROUTE);
		if (flow_flags(reference->flow) & FLOW_OF_HOST)
			return relabel(packet, reference, now);
		if (flow_is_cut(reference->flow) && !(packet->tcp_flags & TCP_RST))
			return packet_continue(packet, STAGE_RESET);
		if (flow_flags(reference->flow) & FLOW_TRANSLATES)
			return packet_continue(packet, STAGE_TRANSLATE);
		if (flow_flags(reference->flow) & FLOW_PATTERN) /* only a source of 0.0.0.0:0 or [::]:0 finds one */
			return packet_refuse(packet, REASON_MARTIAN_SOURCE);
		route = route_of(packet, &rewrite);
		if (!route)
			return packet_refuse(packet, REASON_NO_ROUTE);
		next_hop_copy(&rewrite.next_hop, &route->next_hop);
		by_neighbour = hop_settle(&hop, packet, &rewrite, reference, now);
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
	flow_note_arrival(reference, packet, now);
	if (!packet_rewrite(packet, &rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	if (cut)
		return packet_cut(packet, &rewrite.next_hop);
	if (packet->train && cached)
		train_begin(packet->train, packet, hop.shared, &rewrite, flow_arrival(reference->flow, direction));
	return by_neighbour ? redirect_to_neighbour(packet, route)
			    : redirect_to_output(packet, rewrite.next_hop.ifindex, rewrite.next_hop.flags);
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

	if (!rewrite_from_flow(&rewrite, packet, reference) || !flow_reference_holds(reference))
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
	__u64 now = packet->in_lane || (packet->stage == STAGE_ATTACHED && packet->side < SIDES_THAT_BEGIN) ? packet->now
													    : time_now();

	if (packet->stage == STAGE_TRANSLATE)
		return forward_translated(packet, reference, now);
	if (packet->hook == HOOK_XDP)
		return forward_xdp(packet, reference, now);
	return forward_tc(packet, reference, now);
}

#endif
