/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The way of a packet: parse → find its flow, or make one → rewrite → forward. docs/packet-walk.md tells the same story. */
#ifndef FASTNAT_PIPELINE_H
#define FASTNAT_PIPELINE_H

#include "nat/sweep.h"
#include "net/parse.h"

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

static __always_inline bool packet_ttl_is_used_up(struct packet *packet)
{
	if (packet->is_ipv4) {
		struct iphdr *ip = packet->data + ETH_HLEN;

		return (void *)(ip + 1) > packet->data_end || ip->ttl <= 1;
	}
	struct ipv6hdr *ip = packet->data + ETH_HLEN;

	return (void *)(ip + 1) > packet->data_end || ip->hop_limit <= 1;
}

/* XDP: only what needs no more than the flow. Everything out of the ordinary is TC's. */
static __always_inline bool xdp_packet_is_ordinary(struct packet *packet, const struct flow_half *half,
						   const struct flow_half *other, __u64 now)
{
	struct ethhdr *ethernet = packet->data;

	if ((void *)(ethernet + 1) > packet->data_end)
		return false;
	/* Not passed by the device's own filter yet: to be ours, the frame goes where this flow's frames always went. */
	if (!mac_equal(ethernet->h_dest, other->next_hop.source_mac))
		return false;
	return !(packet->tcp_flags & TCP_SYN) && next_hop_is_fresh(half, now) && half->next_hop.flags & NEXT_HOP_XDP &&
	       packet->ip_length <= half->next_hop.mtu && !packet_ttl_is_used_up(packet) && !packet_checksum_is_partial(packet);
}

static __always_inline enum verdict forward_xdp(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	struct flow_half *other = flow_half(reference->flow, !direction);
	struct rewrite rewrite;

	if (!xdp_packet_is_ordinary(packet, half, other, now))
		return VERDICT_PASS;
	rewrite_from_flow(&rewrite, half, other);
	if (!next_hop_read(&half->next_hop, &rewrite.next_hop) || !flow_reference_holds(reference))
		return VERDICT_PASS;
	if (!packet_rewrite(packet, &rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	flow_track(reference->flow, half, packet, direction);
	flow_account(half, packet, now);
	packet->action = bpf_redirect_map(&xdp_outputs, rewrite.next_hop.ifindex, XDP_DROP);
	if (packet->action == XDP_DROP) /* the output has gone since its route was looked up */
		return packet_refuse(packet, REASON_NO_ROUTE);
	return VERDICT_REDIRECTED;
}

/* Sends through the kernel's neighbour table: it resolves a neighbour that is not known, and keeps a known one confirmed. */
static __always_inline enum verdict redirect_to_neighbour(struct packet *packet, struct route *route)
{
	packet->action = bpf_redirect_neigh(route->next_hop.ifindex, &route->neighbour, sizeof(route->neighbour), 0);
	return VERDICT_REDIRECTED;
}

static __always_inline enum verdict forward_tc(struct packet *packet, const struct flow_reference *reference, __u64 now)
{
	enum direction direction = entry_direction(reference->entry);
	struct flow_half *half = flow_half(reference->flow, direction);
	bool cached = next_hop_is_fresh(half, now);
	struct rewrite rewrite;
	struct route route;

	rewrite_from_flow(&rewrite, half, flow_half(reference->flow, !direction));
	cached = cached && next_hop_read(&half->next_hop, &rewrite.next_hop);
	if (!flow_reference_holds(reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	if (packet_ttl_is_used_up(packet))
		return packet_refuse(packet, REASON_TTL_EXPIRED);
	if (!cached) {
		if (route_find(packet->context, &rewrite, &route))
			return packet_refuse(packet, REASON_NO_ROUTE);
		next_hop_copy(&rewrite.next_hop, &route.next_hop);
		next_hop_store(&half->next_hop, &route.next_hop, reference);
		half->refreshed = now >> 20;
	}
	if (packet_wire_length(packet) > rewrite.next_hop.mtu)
		return packet_refuse(packet, REASON_TOO_BIG);
	flow_track(reference->flow, half, packet, direction);
	flow_account(half, packet, now);
	if (!packet_rewrite(packet, &rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	if (!cached)
		return redirect_to_neighbour(packet, &route);
	packet->action = bpf_redirect(rewrite.next_hop.ifindex, 0);
	return VERDICT_REDIRECTED;
}

static __always_inline enum verdict forward(struct packet *packet, const struct flow_reference *reference)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	if (packet->hook == HOOK_XDP)
		return forward_xdp(packet, reference, now);
	return forward_tc(packet, reference, now);
}

/* For a packet of no known flow: begins one, where a mapping says so. A TCP packet from the middle of a connection is not ours:
 * whoever carried it goes on. REASON_NONE, or what keeps the packet from being forwarded. */
static __always_inline enum reason begin(struct packet *packet)
{
	struct ethhdr *ethernet = packet->data;
	struct flow_request request;
	int reason;

	if (packet->tuple->protocol == IPPROTO_TCP && (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return REASON_UNPUBLISHED;
	if ((void *)(ethernet + 1) > packet->data_end)
		return REASON_MALFORMED;
	__builtin_memset(&request, 0, sizeof(request));
	__builtin_memcpy(request.uplink_mac, ethernet->h_dest, ETH_ALEN);
	request.original = *packet->tuple;
	reason = flow_begin(packet->context, &request);
	/* In a race, another CPU was faster: its flow is as good. */
	return reason == REASON_FLOW_RACE ? REASON_NONE : reason;
}

static __always_inline bool flow_find_current(struct packet *packet, struct flow_reference *reference)
{
	if (!flow_find(packet->tuple, reference))
		return false;
	if (packet->hook == HOOK_XDP || !flow_is_reused(reference->flow, packet, entry_direction(reference->entry)))
		return true;
	flow_delete(reference->entry & ENTRY_SLOT_MASK);
	return false;
}

static __always_inline enum verdict pipeline(struct packet *packet)
{
	struct flow_reference reference;
	enum reason reason;

	packet->reason = REASON_NONE;
	switch (packet_parse(packet)) {
	case PARSE_MALFORMED:
		return packet_refuse(packet, REASON_MALFORMED);
	case PARSE_FRAGMENT:
		return packet_refuse(packet, REASON_FRAGMENT);
	case PARSE_FOREIGN:
		return VERDICT_PASS;
	case PARSE_OK:
		break;
	}
	if (!packet_is_for_host(packet))
		return VERDICT_PASS;
	if (!flow_find_current(packet, &reference)) {
		if (packet->hook == HOOK_XDP || packet->side == SIDE_CONTAINER)
			return VERDICT_PASS;
		reason = begin(packet);
		if (reason != REASON_NONE)
			return packet_refuse(packet, reason);
		if (!flow_find(packet->tuple, &reference))
			return packet_refuse(packet, REASON_FLOW_RACE);
	}
	return forward(packet, &reference);
}

#endif
