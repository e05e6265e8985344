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

static __always_inline bool arrival_holds(const struct arrival *arrival, __u32 ifindex, const __u8 *mac, __u64 now)
{
	return arrival->ifindex == ifindex && note_is_fresh(arrival->noted, now) && mac_equal(arrival->mac, mac);
}

/* Of two notes' times that are less than 2^31 units ago, the one that is over first. */
static __always_inline __u32 noted_first(__u32 one, __u32 other)
{
	return (__s32)(one - other) < 0 ? one : other;
}

/* Whether the packet is for this host, for certain; noted with its mapping. */
static __always_inline bool arrival_is_for_host(const struct packet *packet, struct mapping_note *mapping, __u64 now)
{
	const struct address *address = &packet->tuple->destination;
	const struct ethhdr *ethernet = packet->data;
	__u32 ifindex = packet_ifindex(packet), noted;
	const struct address_note *host;
	const struct arrival *arrival;

	if (packet_ends_before(packet, ethernet + 1))
		return false;
	if (arrival_holds(&mapping->arrival, ifindex, ethernet->h_dest, now))
		return true;
	arrival = arrival_at(ifindex);
	if (!arrival || !arrival_holds(arrival, ifindex, ethernet->h_dest, now) || address_is_no_host(address))
		return false;
	noted = arrival->noted;
	if (mapping->any_address) {
		host = address_note_at(&host_addresses, address, HOST_ADDRESSES);
		if (!host || !address_note_holds(host, address, ifindex, now))
			return false;
		noted = noted_first(noted, host->noted);
	}
	mapping->arrival = *arrival;
	mapping->arrival.noted = noted;
	return true;
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

/* Whether the packet's source is neither this host's nor one that no router forwards from, for certain; noted with its mapping,
 * where that is good for the next packet, too. */
static __always_inline bool arrival_has_client(const struct packet *packet, struct mapping_note *mapping, __u64 now)
{
	const struct tuple *original = packet->tuple;
	__u32 ifindex = packet_ifindex(packet);
	const struct address_note *client;

	if (address_note_holds(&mapping->client, &original->source, ifindex, now))
		return true;
	if (address_is_link_local(&original->source) || address_is_no_host(&original->source))
		return false;
	client = address_note_at(&client_addresses, &original->source, CLIENT_ADDRESSES);
	if (!client || !address_note_holds(client, &original->source, ifindex, now))
		return !(packet->hook == HOOK_XDP ? arrival_is_of_host(packet->context, original)
						  : source_is_of_host(packet->context, original));
	mapping->client = *client;
	return true;
}

/* As mapping_refuses; false also where the answer is not at hand. */
static __always_inline bool arrival_is_admitted(const struct packet *packet, struct mapping_note *mapping, __u64 now)
{
	return arrival_is_for_host(packet, mapping, now) && mapping_allows(&mapping->mapping, &packet->tuple->source) &&
	       arrival_has_client(packet, mapping, now);
}

#endif
