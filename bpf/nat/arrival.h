/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What was found out less than a second ago on this CPU, and need not be asked for another new flow
 * (docs/decisions/0023-new-flows.md). At XDP it could not be asked. */
#ifndef FASTNAT_NAT_ARRIVAL_H
#define FASTNAT_NAT_ARRIVAL_H

#include "mapping.h"

static __always_inline struct arrival *arrival_at(__u32 ifindex)
{
	__u32 index = ifindex % ARRIVALS;

	return bpf_map_lookup_elem(&arrivals, &index);
}

/* At TC, of a packet that the device says is for this host. */
static __always_inline void arrival_note(__u32 ifindex, const __u8 *mac)
{
	struct arrival *arrival = arrival_at(ifindex);

	if (!arrival)
		return;
	arrival->ifindex = ifindex;
	arrival->noted = time_now() >> 20;
	__builtin_memcpy(arrival->mac, mac, ETH_ALEN);
}

static __always_inline bool arrival_is_known(__u32 ifindex, const __u8 *mac, __u64 now)
{
	struct arrival *arrival = arrival_at(ifindex);

	return arrival && arrival->ifindex == ifindex && note_is_fresh(arrival->noted, now) && mac_equal(arrival->mac, mac);
}

/* Whether the packet is for this host, for certain. */
static __always_inline bool arrival_is_for_host(const struct packet *packet, bool any_address, __u64 now)
{
	const struct address *address = &packet->tuple->destination;
	struct address_note *note = address_note_at(&host_addresses, address, HOST_ADDRESSES);
	const struct ethhdr *ethernet = packet->data;
	__u32 ifindex = packet_ifindex(packet);

	return !packet_ends_before(packet, ethernet + 1) && arrival_is_known(ifindex, ethernet->h_dest, now) &&
	       (!any_address || (note && address_note_holds(note, address, ifindex, now)));
}

/* The way to the mapping's target, where it is known and the packet can take it. */
static __always_inline bool arrival_leads(struct packet *packet, const struct mapping *mapping, struct next_hop *next_hop,
					  __u64 now)
{
	struct shared_hop *target = target_hop_at(mapping->id);
	struct hop hop = {.shared = target, .refreshed = &target->refreshed};

	return hop_is_fresh(&hop, now) && next_hop_read(&target->next_hop, next_hop) &&
	       (packet->hook == HOOK_TC || next_hop->flags & NEXT_HOP_XDP) && packet_wire_length(packet) <= next_hop->mtu;
}

/* As source_is_of_host. */
__noinline int arrival_is_of_host(struct xdp_md *frame, const struct tuple *tuple)
{
	return tuple && source_is_of_host_by(frame, frame->ingress_ifindex, tuple);
}

/* As mapping_refuses; false also where the answer is not at hand. */
static __always_inline bool arrival_is_admitted(const struct packet *packet, const struct mapping_match *match, __u64 now)
{
	const struct tuple *original = packet->tuple;

	if (address_is_no_host(&original->destination) || !arrival_is_for_host(packet, match->any_address, now) ||
	    !mapping_allows(match->mapping, &original->source) || address_is_link_local(&original->source) ||
	    address_is_no_host(&original->source))
		return false;
	return source_is_noted(packet_ifindex(packet), original, now) ||
	       !(packet->hook == HOOK_XDP ? arrival_is_of_host(packet->context, original)
					  : source_is_of_host(packet->context, original));
}

#endif
