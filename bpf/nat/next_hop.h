/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Where a packet leaves: looked up in the kernel's routes and neighbours for the first packet of a direction and once a second
 * after; between, the flow has its number (shared_hop.h). */
#ifndef FASTNAT_NAT_NEXT_HOP_H
#define FASTNAT_NAT_NEXT_HOP_H

#include "route.h"
#include "track.h"

/* Units of 2^30 ns (about a second) after which a packet of a hop that passes the queue by goes by the neighbour table again.
 */
#define NEIGHBOUR_INTERVAL 15

/* With its sequence. false: it was being written meanwhile. */
static __always_inline bool next_hop_read(const struct next_hop *from, struct next_hop *to)
{
	__u32 sequence = READ_ONCE(from->sequence);

	if (sequence & 1)
		return false;
	next_hop_copy(to, from);
	to->sequence = sequence;
	asm volatile("" ::: "memory");
	return READ_ONCE(from->sequence) == sequence;
}

/* Takes a half's next hop away, whether it is its own or its mapping's. A slot that is another flow's by now loses its own:
 * that is asked for again. */
static __always_inline void next_hop_expire(struct flow *flow, struct flow_half *half)
{
	/* packets go by a clock that is behind */
	__u32 stale = (__u32)(bpf_ktime_get_ns() >> 20) - 2 * NEXT_HOP_LIFETIME;

	half->refreshed = stale;
	if (half == &flow->original)
		flow_clear_flags(flow, FLOW_SHARES_HOP);
}

/* The next hop that holds for a half, and when it was last looked up. */
struct hop {
	struct shared_hop *shared;
	__u32 *refreshed;
};

/* Whether a direction goes by the next hop of its mapping's target. */
static __always_inline bool flow_shares_hop(const struct flow *flow, enum direction direction)
{
	return direction == DIRECTION_ORIGINAL && flow_flags(flow) & FLOW_SHARES_HOP;
}

/* A table that all flows of a mapping share stays in the CPU's cache, and there is always one of them that has just asked. */
static __always_inline struct hop hop_of(struct flow *flow, enum direction direction)
{
	struct flow_half *half = flow_half(flow, direction);
	bool shares = flow_shares_hop(flow, direction);
	struct hop hop;

	hop.shared = shares ? target_hop_at(half->mapping_id) : shared_hop_at(half->hop);
	hop.refreshed = shares ? &hop.shared->refreshed : &half->refreshed;
	return hop;
}

/* The shared next hop whose source is the MAC address that a direction's packets arrive with: noted, or what the other
 * direction's leave with. */
static __always_inline const struct shared_hop *flow_arrival(struct flow *flow, enum direction direction)
{
	return flow_shares_hop(flow, direction) ? shared_hop_at(flow->original.hop) : hop_of(flow, !direction).shared;
}

/* Gives the direction of the flow that was found a next hop, as of a time. One writer at a time; another one, or one whose flow
 * has gone, leaves it be. */
static __always_inline void flow_set_hop(const struct flow_reference *reference, __u32 number, __u32 refreshed)
{
	struct flow_half *half = flow_half(reference->flow, entry_direction(reference->entry));

	if (__sync_fetch_and_or(&half->word, WORD_BUSY) & WORD_BUSY)
		return;
	if (flow_reference_holds(reference)) {
		half->hop = number;
		half->refreshed = refreshed;
	}
	__sync_fetch_and_and(&half->word, ~WORD_BUSY);
}

/* TC has seen that the frame is for this host; an uplink may get another MAC address while a flow lives. */
static __always_inline void flow_note_arrival(const struct flow_reference *reference, const struct packet *packet, __u64 now)
{
	struct flow *flow = reference->flow;
	const struct ethhdr *ethernet = packet->data;
	const struct shared_hop *arrival;

	if (!flow_shares_hop(flow, entry_direction(reference->entry)) || packet_ends_before(packet, ethernet + 1))
		return;
	arrival = shared_hop_at(flow->original.hop);
	if (!mac_equal_wide(ethernet->h_dest, arrival->next_hop.source_mac))
		flow_set_hop(reference, arrival_find(ethernet->h_dest, now), flow->original.refreshed);
}

static __always_inline bool hop_is_fresh(const struct hop *hop, __u64 now)
{
	return READ_ONCE(hop->shared->next_hop.flags) & NEXT_HOP_RESOLVED && note_is_fresh(READ_ONCE(*hop->refreshed), now);
}

/* Where a note about two addresses stands in a map of `count` of them. */
static __always_inline __u32 addresses_place(const struct address *source, const struct address *destination, __u32 count)
{
	__u64 sum = checksum_sum_address(source) * 3 + checksum_sum_address(destination);

	return (sum ^ sum >> 8 ^ sum >> 16 ^ sum >> 24) % count;
}

static __always_inline struct route_note *route_note_at(const struct rewrite *rewrite)
{
	__u32 index = addresses_place(&rewrite->source, &rewrite->destination, ROUTE_NOTES);

	return bpf_map_lookup_elem(&route_notes, &index);
}

/* The device by which the kernel's routes see the packet come in: of a port, its bridge. */
static __always_inline __u32 packet_device(const struct packet *packet)
{
	__u32 ifindex = packet_ifindex(packet);
	const struct bridge_port *port = packet->side == SIDE_PORT ? bpf_map_lookup_elem(&bridge_ports, &ifindex) : NULL;

	return port ? port->bridge : ifindex;
}

/* The way between the addresses of `rewrite` that a packet of this device has asked for less than a second ago, or NULL. */
static __always_inline struct route_note *route_note_find(const struct packet *packet, const struct rewrite *rewrite, __u64 now)
{
	struct route_note *note = route_note_at(rewrite);

	return note && note_is_fresh(note->noted, now) && note->ifindex == packet_device(packet) &&
			       address_equal(&note->destination, &rewrite->destination) &&
			       address_equal(&note->source, &rewrite->source)
		       ? note
		       : NULL;
}

static __always_inline void route_note_write(const struct packet *packet, const struct rewrite *rewrite, __u32 hop, __u64 now)
{
	struct route_note *note = route_note_at(rewrite);

	if (!note || !hop)
		return;
	note->source = rewrite->source;
	note->destination = rewrite->destination;
	note->ifindex = packet_ifindex(packet);
	note->noted = now >> 20;
	note->hop = hop;
}

/* Whether packets of the flow may go by what another flow has been told. Of the others each packet is to come to the stage that
 * asks. */
static __always_inline bool flow_is_plain(const struct flow *flow)
{
	return !(flow_flags(flow) & (FLOW_OF_HOST | FLOW_TRANSLATES | FLOW_PATTERN)) && !flow_is_cut(flow);
}

/* Takes the way that another flow between these addresses has asked for, for as long as it is good for that one. */
static __always_inline bool hop_recall(struct hop *hop, const struct packet *packet, const struct rewrite *rewrite,
				       const struct flow_reference *reference, __u64 now)
{
	struct route_note *note;

	if (packet->stage != STAGE_ATTACHED && packet->stage != STAGE_ROUTE) /* not worth the verifier's time */
		return false;
	note = route_note_find(packet, rewrite, now);
	if (!note || flow_shares_hop(reference->flow, entry_direction(reference->entry)) || !flow_is_plain(reference->flow))
		return false;
	hop->shared = shared_hop_at(note->hop);
	flow_set_hop(reference, note->hop, note->noted);
	return true;
}

/* In this CPU's scratch, or NULL. */
static __always_inline struct route *route_of(struct packet *packet, const struct rewrite *rewrite)
{
	struct scratch *scratch = map_only_element(&scratches);

	return scratch && !route_find(packet->context, rewrite, &scratch->route) ? &scratch->route : NULL;
}

/* Whether a packet that has just asked for its route is to go by the neighbour table. Through a queue that is every such
 * packet: none overtakes it there. Past the queue those behind it would, so it is the one that begins a flow, which has none
 * behind it as a rule, and another one four times a minute, or the kernel would take the neighbour for unused. */
static __always_inline bool hop_wants_neighbour(const struct shared_hop *shared, const struct next_hop *found, bool begun,
						__u64 now)
{
	return !(found->flags & NEXT_HOP_PEER) || begun ||
	       (__u32)(now >> 30) - READ_ONCE(shared->neighbour) >= NEIGHBOUR_INTERVAL;
}

/* Writes the next hop of a mapping's target. One writer at a time; another one, or one whose flow has gone, leaves it be. */
static __always_inline void target_hop_write(struct shared_hop *target, const struct next_hop *next_hop,
					     const struct flow_reference *reference, __u64 now)
{
	__u32 sequence = READ_ONCE(target->next_hop.sequence);

	if (!shared_hop_claim(target, sequence))
		return;
	if (flow_reference_holds(reference)) {
		next_hop_copy(&target->next_hop, next_hop);
		target->refreshed = now >> 20;
	}
	shared_hop_release(target, sequence);
}

/* Keeps the way that a packet has asked for, for its mapping's flows or its own, and whoever asks next. Whether it is to go by
 * the neighbour table. */
static __always_inline bool hop_settle(const struct hop *hop, const struct packet *packet, const struct rewrite *rewrite,
				       const struct flow_reference *reference, __u64 now)
{
	bool shares = flow_shares_hop(reference->flow, entry_direction(reference->entry));
	struct shared_hop *shared = hop->shared;
	__u32 number = 0;

	if (!(rewrite->next_hop.flags & NEXT_HOP_RESOLVED)) {
		if (shares) /* or the next would, too, and be overtaken by those behind it */
			shared->neighbour = now >> 30;
		return true;
	}
	if (shares) {
		target_hop_write(shared, &rewrite->next_hop, reference, now);
	} else {
		number = shared_hop_intern(&rewrite->next_hop);
		shared = shared_hop_at(number);
		route_note_write(packet, rewrite, number, now);
		if (!flow_is_cut(reference->flow)) /* its packets come here, every one */
			flow_set_hop(reference, number, now >> 20);
	}
	if (!hop_wants_neighbour(shared, &rewrite->next_hop, packet->begun, now))
		return false;
	if (shared->next_hop.ifindex)
		shared->neighbour = now >> 30;
	return true;
}

/* Sends a complete frame: into the queue of the output, or past it to its other end, where the kernel lets only packets go that
 * have come in. */
static __always_inline enum verdict redirect_to_output(struct packet *packet, __u32 ifindex, __u16 flags)
{
	packet->action = flags & NEXT_HOP_PEER ? bpf_redirect_peer(ifindex, 0) : bpf_redirect(ifindex, 0);
	return VERDICT_REDIRECTED;
}

/* The same at XDP. */
static __always_inline enum verdict redirect_frame(struct packet *packet, __u32 ifindex)
{
	packet->action = bpf_redirect_map(&xdp_outputs, ifindex, XDP_DROP);
	if (packet->action == XDP_DROP) /* the output has gone since its route was looked up */
		return packet_refuse(packet, REASON_NO_ROUTE);
	return VERDICT_REDIRECTED;
}

/* Sends through the kernel's neighbour table: it resolves a neighbour that is not known, and keeps a known one confirmed. */
static __always_inline enum verdict redirect_to_neighbour(struct packet *packet, struct route *route)
{
	packet->action = bpf_redirect_neigh(route->output, &route->neighbour, sizeof(route->neighbour), 0);
	return VERDICT_REDIRECTED;
}

#endif
