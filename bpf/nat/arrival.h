/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* New flows at XDP: those about which nothing is to be asked that TC has not found out less than a second ago on this CPU. All
 * others are TC's to begin, and to refuse (docs/decisions/0023-new-flows.md). */
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
	arrival->noted = bpf_ktime_get_coarse_ns() >> 20;
	__builtin_memcpy(arrival->mac, mac, ETH_ALEN);
}

static __always_inline bool arrival_is_known(__u32 ifindex, const __u8 *mac, __u64 now)
{
	struct arrival *arrival = arrival_at(ifindex);

	return arrival && arrival->ifindex == ifindex && (__u32)(now >> 20) - arrival->noted < NEXT_HOP_LIFETIME &&
	       mac_equal(arrival->mac, mac);
}

/* Whether the packet is for this host, for certain. */
static __always_inline bool arrival_is_for_host(struct xdp_md *frame, const struct flow_request *request, bool any_address,
						__u64 now)
{
	const struct address *address = &request->original.destination;
	struct address_note *note = address_note_at(&host_addresses, address, HOST_ADDRESSES);

	return arrival_is_known(frame->ingress_ifindex, request->arrival_mac, now) &&
	       (!any_address || (note && address_note_holds(note, address, frame->ingress_ifindex, now)));
}

/* Whether packets of `length` bytes to the mapping's target leave by XDP. */
static __always_inline bool mapping_goes_by_xdp(const struct mapping *mapping, __u32 length, __u64 now)
{
	__u32 id = mapping->id;
	struct target_hop *target = bpf_map_lookup_elem(&target_hops, &id);
	struct hop hop;

	if (!target)
		return false;
	hop.next_hop = &target->next_hop;
	hop.refreshed = &target->refreshed;
	return hop_is_fresh(&hop, now) && target->next_hop.flags & NEXT_HOP_XDP && length <= target->next_hop.mtu;
}

/* As source_is_of_host. */
__noinline int arrival_is_of_host(struct xdp_md *frame, const struct tuple *tuple)
{
	return tuple && source_is_of_host_by(frame, frame->ingress_ifindex, tuple);
}

/* As mapping_refuses; false also where XDP cannot know. */
static __always_inline bool mapping_admits(struct xdp_md *frame, const struct mapping_match *match,
					   const struct flow_request *request, __u64 now)
{
	const struct tuple *original = &request->original;

	return !address_is_no_host(&original->destination) && arrival_is_for_host(frame, request, match->any_address, now) &&
	       mapping_allows(match->mapping, &original->source) && !address_is_link_local(&original->source) &&
	       !address_is_no_host(&original->source) && !arrival_is_of_host(frame, original);
}

/* As mapping_begin, for a packet of `length` bytes at XDP; REASON_UNPUBLISHED also where TC is to look at it. */
__noinline int arrival_begin(struct xdp_md *frame, __u32 length)
{
	struct settings *current = map_only_element(&settings);
	struct scratch *scratch = map_only_element(&scratches);
	struct mapping_match match;
	__u64 now = bpf_ktime_get_coarse_ns();
	enum reason reason = REASON_NONE;
	__u32 version;

	if (!scratch || !current)
		return REASON_UNPUBLISHED;
	version = READ_ONCE(current->mappings_version);
	if (!mapping_find(&scratch->request.original, &match) ||
	    mapping_translates(match.mapping, &scratch->request.original) || !mapping_goes_by_xdp(match.mapping, length, now))
		return REASON_UNPUBLISHED;
	request_set_mapping(&scratch->request, &match, SIDE_UPLINK);
	if (!mapping_admits(frame, &match, &scratch->request, now))
		return REASON_UNPUBLISHED;
	if (match.mapping->flags & MAPPING_LIMITED)
		reason = limits_take();
	if (reason == REASON_NONE)
		reason = flow_create_plain();
	if (reason == REASON_NO_FREE_PORT || reason == REASON_FLOW_RACE) /* TC looks for another port */
		return REASON_UNPUBLISHED;
	if (reason == REASON_NONE && READ_ONCE(current->mappings_version) != version)
		return flow_withdraw(&scratch->request.original);
	return reason;
}

#endif
