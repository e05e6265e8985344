/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Where a packet leaves: looked up in the kernel's routes and neighbours for the first packet of a direction and once a second
 * after, cached in the flow between. */
#ifndef FASTNAT_NAT_NEXT_HOP_H
#define FASTNAT_NAT_NEXT_HOP_H

#include "track.h"

/* Units of 2^20 ns (about a millisecond) that a cached next hop is good for. */
#define NEXT_HOP_LIFETIME 900

#define FAMILY_IPV4 2
#define FAMILY_IPV6 10

/* A route, and what bpf_redirect_neigh needs to find the neighbour itself. */
struct route {
	struct next_hop next_hop;
	struct bpf_redir_neigh neighbour;
};

static __always_inline void fib_set_addresses(struct bpf_fib_lookup *fib, const struct address *source,
					      const struct address *destination)
{
	if (address_is_ipv4(destination)) {
		fib->family = FAMILY_IPV4;
		fib->ipv4_src = source->words[3];
		fib->ipv4_dst = destination->words[3];
	} else {
		fib->family = FAMILY_IPV6;
		__builtin_memcpy(fib->ipv6_src, source->words, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, destination->words, sizeof(fib->ipv6_dst));
	}
}

/* What the kernel's routes say of a packet that came in on `ifindex`: an enum of bpf_fib_lookup (BPF_FIB_LKUP_RET_*). */
static __always_inline long fib_find(struct packet *packet, struct bpf_fib_lookup *fib, const struct address *source,
				     const struct address *destination)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = packet_interface(packet);
	fib->l4_protocol = packet->tuple.protocol;
	fib->tot_len = 1; /* not 0: asks for the route's MTU */
	fib_set_addresses(fib, source, destination);
	return bpf_fib_lookup(packet->context, fib, sizeof(*fib), 0);
}

/* The kernel has one answer for "to this host" and for "no route at all", and this takes the latter for the former: on a host
 * with neither a default route nor forwarding to speak of. Broadcast and multicast have been passed before. */
static __always_inline bool address_is_local(struct packet *packet, const struct address *address)
{
	struct bpf_fib_lookup fib;

	return fib_find(packet, &fib, &packet->tuple.source, address) == BPF_FIB_LKUP_RET_NOT_FWDED;
}

static __always_inline void route_set_neighbour(struct route *route, const struct bpf_fib_lookup *fib)
{
	route->neighbour.nh_family = fib->family;
	if (fib->family == FAMILY_IPV4)
		route->neighbour.ipv4_nh = fib->ipv4_dst;
	else
		__builtin_memcpy(route->neighbour.ipv6_nh, fib->ipv6_dst, sizeof(route->neighbour.ipv6_nh));
}

static __always_inline bool route_find(struct packet *packet, const struct rewrite *rewrite, struct route *route)
{
	struct bpf_fib_lookup fib;
	long result = fib_find(packet, &fib, &rewrite->source, &rewrite->destination);
	__u32 output = fib.ifindex;

	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return false;
	__builtin_memset(route, 0, sizeof(*route));
	route->next_hop.ifindex = output;
	route->next_hop.mtu = fib.mtu_result;
	route_set_neighbour(route, &fib);
	if (result == BPF_FIB_LKUP_RET_SUCCESS) {
		__builtin_memcpy(route->next_hop.destination_mac, fib.dmac, ETH_ALEN);
		__builtin_memcpy(route->next_hop.source_mac, fib.smac, ETH_ALEN);
		route->next_hop.flags = NEXT_HOP_RESOLVED;
		if (bpf_map_lookup_elem(&xdp_outputs, &output))
			route->next_hop.flags |= NEXT_HOP_XDP;
	}
	return true;
}

/* Copies everything but the sequence, which is the record's own. */
static __always_inline void next_hop_copy(struct next_hop *to, const struct next_hop *from)
{
	to->ifindex = from->ifindex;
	__builtin_memcpy(to->destination_mac, from->destination_mac, ETH_ALEN);
	__builtin_memcpy(to->source_mac, from->source_mac, ETH_ALEN);
	to->mtu = from->mtu;
	to->flags = from->flags;
}

/* false: it was being written meanwhile. */
static __always_inline bool next_hop_read(const struct next_hop *from, struct next_hop *to)
{
	__u32 sequence = READ_ONCE(from->sequence);

	if (sequence & 1)
		return false;
	next_hop_copy(to, from);
	asm volatile("" ::: "memory");
	return READ_ONCE(from->sequence) == sequence;
}

/* One writer at a time; another one, or one whose flow has gone, leaves it be. The sequence is odd while it is written, also
 * across a reuse of the slot: flow_create does not take such a slot. */
static __always_inline void next_hop_store(struct next_hop *to, const struct next_hop *from,
					   const struct flow_reference *reference)
{
	__u32 sequence = READ_ONCE(to->sequence);

	if (sequence & 1 || __sync_val_compare_and_swap(&to->sequence, sequence, sequence + 1) != sequence)
		return;
	if (flow_reference_holds(reference))
		next_hop_copy(to, from);
	__sync_lock_test_and_set(&to->sequence, sequence + 2);
}

static __always_inline bool next_hop_is_fresh(const struct flow_half *half, __u64 now)
{
	return READ_ONCE(half->next_hop.ifindex) && READ_ONCE(half->next_hop.flags) & NEXT_HOP_RESOLVED &&
	       (__u32)(now >> 20) - READ_ONCE(half->refreshed) < NEXT_HOP_LIFETIME;
}

#endif
