/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What the kernel's routes and neighbours say of addresses: whose they are, and where a packet leaves. */
#ifndef FASTNAT_NAT_ROUTE_H
#define FASTNAT_NAT_ROUTE_H

#include "bridge.h"
#include "notes.h"

/* Units of 2^20 ns (about a millisecond) that a cached next hop is good for. */
#define NEXT_HOP_LIFETIME 900

/* Without a neighbour the kernel does not tell the MTU. */
#define MTU_UNKNOWN 0xffff

#define FAMILY_IPV4 2
#define FAMILY_IPV6 10

/* Since Linux 6.7: the answer has the source address that the kernel would choose, or there is none. */
#define FIB_LOOKUP_SOURCE (1U << 4)
#define FIB_RESULT_NO_SOURCE 9

/* The loopback device, in every network namespace. */
#define LOOPBACK_IFINDEX 1

/* What the kernel's routes say of a packet that came in by an interface: BPF_FIB_LKUP_RET_*. */
static __always_inline long fib_find_from(void *context, __u32 ifindex, struct bpf_fib_lookup *fib,
					  const struct address *source, const struct address *destination, __u32 flags)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = ifindex;
	fib->tot_len = 1; /* not 0: asks for the route's MTU */
	if (address_is_ipv4(destination)) {
		fib->family = FAMILY_IPV4;
		fib->ipv4_src = source->words[3];
		fib->ipv4_dst = destination->words[3];
	} else {
		fib->family = FAMILY_IPV6;
		__builtin_memcpy(fib->ipv6_src, source->words, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, destination->words, sizeof(fib->ipv6_dst));
	}
	return bpf_fib_lookup(context, fib, sizeof(*fib), flags);
}

/* The same where `skb` came in. */
static __always_inline long fib_find(struct __sk_buff *skb, struct bpf_fib_lookup *fib, const struct address *source,
				     const struct address *destination, __u32 flags)
{
	return fib_find_from(skb, skb->ifindex, fib, source, destination, flags);
}

/* The answer to FIB_LOOKUP_SOURCE. */
static __always_inline void fib_source(const struct bpf_fib_lookup *fib, bool is_ipv4, struct address *source)
{
	if (is_ipv4)
		address_set_ipv4(source, fib->ipv4_src);
	else
		__builtin_memcpy(source->words, fib->ipv6_src, sizeof(source->words));
}

enum locality {
	LOCALITY_HOST,
	LOCALITY_ELSEWHERE,
	LOCALITY_UNKNOWN, /* forwarding is off where the packet came in, so the kernel does not look */
};

/* Whether the destination is an address of this host, for a packet that is neither broadcast nor multicast. The kernel has one
 * answer for "to this host" and for "no route at all", so the latter is taken for the former: on a host without a default
 * route, for an address it has no way to. */
__noinline int route_locality(struct __sk_buff *skb, const struct tuple *tuple)
{
	struct bpf_fib_lookup fib;

	if (!tuple)
		return LOCALITY_UNKNOWN;
	switch (fib_find(skb, &fib, &tuple->source, &tuple->destination, 0)) {
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		return LOCALITY_HOST;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return LOCALITY_UNKNOWN;
	default:
		return LOCALITY_ELSEWHERE;
	}
}

/* Whether packets between these addresses would have nowhere to come back to: `own`, under which they leave, is none of this
 * host's. */
static __always_inline bool address_is_gone(struct __sk_buff *skb, struct scratch *scratch, const struct address *other,
					    const struct address *own)
{
	scratch->candidate.source = *other;
	scratch->candidate.destination = *own;
	return route_locality(skb, &scratch->candidate) == LOCALITY_ELSEWHERE;
}

/* Whether what was found out then, in units of 2^20 ns, is good still. */
static __always_inline bool note_is_fresh(__u32 noted, __u64 now)
{
	return (__u32)(now >> 20) - noted < NEXT_HOP_LIFETIME;
}

/* What this CPU has noted in `map`, which has room for `count` of them, about the address or another one of its hash. */
static __always_inline struct address_note *address_note_at(void *map, const struct address *address, __u32 count)
{
	__u32 hash = address->words[0] + address->words[1] + address->words[2] + address->words[3];
	__u32 index = (hash ^ hash >> 8 ^ hash >> 16 ^ hash >> 24) % count;

	return bpf_map_lookup_elem(map, &index);
}

static __always_inline bool address_note_holds(const struct address_note *note, const struct address *address, __u32 ifindex,
					       __u64 now)
{
	return address_equal(&note->address, address) && note->ifindex == ifindex && note_is_fresh(note->noted, now);
}

static __always_inline void address_note_write(struct address_note *note, const struct address *address, __u32 ifindex)
{
	note->address = *address;
	note->ifindex = ifindex;
	note->noted = time_now() >> 20;
}

/* Whether it has been noted of the packet's source that it is not this host's. */
static __always_inline bool source_is_noted(__u32 ifindex, const struct tuple *tuple, __u64 now)
{
	const struct address_note *note = address_note_at(&client_addresses, &tuple->source, CLIENT_ADDRESSES);

	return note && address_note_holds(note, &tuple->source, ifindex, now);
}

/* Whether the packet claims to come from this host itself, or from where there is no way back to: the kernel's answer is one
 * for both (route_locality). It drops the former as martian, the latter where it looks (rp_filter). Rules of routing may keep
 * the ways of one interface from packets of another, so a second one is asked before a packet is refused: as if the host itself
 * sent. A no is good for as long as a next hop is. `context` is of either hook. */
static __always_inline bool source_is_of_host_by(void *context, __u32 ifindex, const struct tuple *tuple)
{
	struct address_note *note;
	struct bpf_fib_lookup fib;

	if (source_is_noted(ifindex, tuple, time_now()))
		return false;
	if (fib_find_from(context, ifindex, &fib, &tuple->destination, &tuple->source, 0) == BPF_FIB_LKUP_RET_NOT_FWDED &&
	    fib_find_from(context, LOOPBACK_IFINDEX, &fib, &tuple->destination, &tuple->source, 0) ==
		    BPF_FIB_LKUP_RET_NOT_FWDED)
		return true;
	note = address_note_at(&client_addresses, &tuple->source, CLIENT_ADDRESSES);
	if (note)
		address_note_write(note, &tuple->source, ifindex);
	return false;
}

__noinline int source_is_of_host(struct __sk_buff *skb, const struct tuple *tuple)
{
	return tuple && source_is_of_host_by(skb, skb->ifindex, tuple);
}

/* As route_locality, but a yes is good for as long as a next hop is. A no is asked for each time: an address that is added
 * counts at once. */
static __always_inline enum locality address_locality(struct __sk_buff *skb, const struct tuple *tuple)
{
	struct address_note *note = address_note_at(&host_addresses, &tuple->destination, HOST_ADDRESSES);
	enum locality locality;

	if (note && address_note_holds(note, &tuple->destination, skb->ifindex, time_now()))
		return LOCALITY_HOST;
	locality = route_locality(skb, tuple);
	/* For a source that is not forwarded, the kernel's answer is the same wherever it goes: nothing to remember. */
	if (note && locality == LOCALITY_HOST && !address_is_link_local(&tuple->source) && !address_is_no_host(&tuple->source))
		address_note_write(note, &tuple->destination, skb->ifindex);
	return locality;
}

static __always_inline void route_set_neighbour(struct route *route, const struct bpf_fib_lookup *fib)
{
	route->neighbour.nh_family = fib->family;
	if (fib->family == FAMILY_IPV4)
		route->neighbour.ipv4_nh = fib->ipv4_dst;
	else
		__builtin_memcpy(route->neighbour.ipv6_nh, fib->ipv6_dst, sizeof(route->neighbour.ipv6_nh));
}

/* 0, or -1 where there is no route or forwarding is off. Without a neighbour yet, the route has no NEXT_HOP_RESOLVED. */
__noinline int route_find(struct __sk_buff *skb, const struct rewrite *rewrite, struct route *route)
{
	struct bpf_fib_lookup fib;
	__u32 output, port;
	long result;

	if (!rewrite || !route)
		return -1;
	result = fib_find(skb, &fib, &rewrite->source, &rewrite->destination, 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return -1;
	output = fib.ifindex;
	__builtin_memset(route, 0, sizeof(*route));
	route->output = output;
	route->next_hop.ifindex = output;
	route->next_hop.mtu = result == BPF_FIB_LKUP_RET_SUCCESS ? fib.mtu_result : MTU_UNKNOWN;
	route_set_neighbour(route, &fib);
	if (result == BPF_FIB_LKUP_RET_SUCCESS) {
		__builtin_memcpy(route->next_hop.destination_mac, fib.dmac, ETH_ALEN);
		__builtin_memcpy(route->next_hop.source_mac, fib.smac, ETH_ALEN);
		route->next_hop.flags = NEXT_HOP_RESOLVED;
		port = station_port(output, fib.dmac);
		if (port)
			route->next_hop.ifindex = output = port;
		if (bpf_map_lookup_elem(&xdp_outputs, &output))
			route->next_hop.flags |= NEXT_HOP_XDP;
		if (bpf_map_lookup_elem(&peer_outputs, &output))
			route->next_hop.flags |= NEXT_HOP_PEER;
	}
	return 0;
}

#endif
