/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* ICMP errors of our own: what the stack would tell the sender of a packet that is dropped here, before anything in it is
 * translated. The packet itself becomes the error and goes back out of the interface that it came in by
 * (docs/decisions/0011-reports.md). */
#ifndef FASTNAT_NAT_REPORT_H
#define FASTNAT_NAT_REPORT_H

#include "next_hop.h"

/* As the kernel does (net.ipv4.icmp_msgs_per_sec, icmp_msgs_burst), for each CPU: one in so many ns on average. */
#define REPORT_INTERVAL 1000000ULL
#define REPORT_BURST 50

#define REPORT_TTL 64
/* Bytes of a packet that an ICMPv4 error quotes: the whole has 576 (RFC 1812, 4.3.2.3). */
#define REPORT_IPV4_QUOTE_BYTES (576 - 20 - 8)
/* RFC 1812, 4.3.2.5: the type of service of the packet, with the precedence "internetwork control". */
#define REPORT_TOS(tos) (((tos)&0x1e) | 0xc0)
/* No IPv6 link has less (RFC 8200, 5). */
#define IPV6_MINIMUM_MTU 1280

/* A checksum that a device was to complete begins at most so many bytes into the frame. */
#define REPORT_PULL 80

/* Everything that stands before the message. */
struct report_headers {
	struct ethhdr ethernet;
	union {
		struct iphdr ipv4;
		struct ipv6hdr ipv6;
	};
} __attribute__((packed));

/* RFC 1812, 4.3.2.7 and RFC 4443, 2.4e: not about a later fragment or a sender that is no single host. What may be cut up is
 * not too big. */
static __always_inline bool report_is_due(struct packet *packet, enum reason reason)
{
	struct iphdr *ip = packet->data + ETH_HLEN;

	if (address_is_no_host(&packet->tuple->source) || (void *)(ip + 1) > packet->data_end)
		return false;
	if (!packet->is_ipv4)
		return true;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
		return false;
	return reason != REASON_TOO_BIG || ip->frag_off & bpf_htons(IPV4_DONT_FRAGMENT);
}

/* Whether the rate allows one more. As in the kernel, path MTU discovery is not held up. */
static __always_inline bool report_is_allowed(enum reason reason)
{
	__u64 *end = map_only_element(&report_limits);
	__u64 now = bpf_ktime_get_ns();

	if (!end || reason == REASON_TOO_BIG)
		return end;
	if (*end < now)
		*end = now;
	if (*end - now > (REPORT_BURST - 1) * REPORT_INTERVAL)
		return false;
	*end += REPORT_INTERVAL;
	return true;
}

/* The address that this host would choose towards the packet's sender: since Linux 6.7 the kernel tells. 0 or -1. */
static __always_inline int report_source_of_kernel(struct packet *packet, struct address *source)
{
	__u32 flags = BPF_FIB_LOOKUP_OUTPUT | FIB_LOOKUP_SOURCE;
	struct address none = {};
	struct bpf_fib_lookup fib;
	long result = fib_find(packet->context, &fib, &none, &packet->tuple->source, flags);

	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return -1;
	fib_source(&fib, packet->is_ipv4, source);
	return 0;
}

/* Where the other direction's packets of the flow arrive. */
static __always_inline void flow_far_address(const struct flow_reference *reference, struct address *address)
{
	struct tuple tuple = {};

	flow_tuple(reference->flow, entry_slot(reference->entry), !entry_direction(reference->entry), &tuple);
	*address = tuple.destination;
}

/* Who the error is from: the address that the packet was sent to, if it is this host's. To others, a container's packet say,
 * the host is what it is to that neighbour; failing that, its address on the far side of the flow. */
static __always_inline bool report_source(struct packet *packet, struct address *source)
{
	struct flow_reference reference;

	if (route_locality(packet->context, packet->tuple) == LOCALITY_HOST)
		*source = packet->tuple->destination;
	else if (!report_source_of_kernel(packet, source))
		return true;
	else if (flow_find(packet->tuple, &reference))
		flow_far_address(&reference, source);
	else
		return false;
	return address_is_ipv4(source) == packet->is_ipv4; /* a flow may have another family on its far side */
}

/* What the error says. Whatever has no message of its own was not let through: prohibited. */
static __always_inline void report_set_message(struct packet *packet, struct icmp_header *icmp, enum reason reason, __u32 mtu)
{
	bool is_ipv4 = packet->is_ipv4;

	icmp->rest = 0;
	icmp->checksum = 0;
	icmp->type = is_ipv4 ? ICMPV4_DESTINATION_UNREACHABLE : ICMPV6_DEST_UNREACH;
	icmp->code = is_ipv4 ? ICMPV4_PROHIBITED : ICMPV6_ADM_PROHIBITED;
	if (reason == REASON_TTL_EXPIRED) {
		icmp->type = is_ipv4 ? ICMPV4_TIME_EXCEEDED : ICMPV6_TIME_EXCEED;
		icmp->code = 0;
	} else if (reason == REASON_TOO_BIG) {
		icmp->type = is_ipv4 ? ICMPV4_DESTINATION_UNREACHABLE : ICMPV6_PKT_TOOBIG;
		icmp->code = is_ipv4 ? ICMPV4_FRAGMENTATION_NEEDED : 0;
		icmp->rest = bpf_htonl(is_ipv4 || mtu > IPV6_MINIMUM_MTU ? mtu : IPV6_MINIMUM_MTU);
	}
}

/* Copies bytes of the packet into the message in this CPU's scratch. In a function of its own, as the next one: among few
 * values the compiler keeps the length in a register, where the verifier of Linux 6.1 remembers its bounds. */
__noinline int report_quote_load(struct __sk_buff *skb, __u32 length)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || !length_is_within(&length, 1, REPORT_QUOTE_BYTES))
		return -1;
	return bpf_skb_load_bytes(skb, ETH_HLEN, scratch->report.quote, length);
}

/* Writes the message into the packet. */
__noinline int report_message_store(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || !length_is_within(&length, 1, sizeof(scratch->report)))
		return -1;
	return bpf_skb_store_bytes(skb, offset, &scratch->report, length, BPF_F_RECOMPUTE_CSUM);
}

static __always_inline void report_quote_clear(struct report_message *message)
{
	__u64 *words = (void *)message->quote;

#pragma clang loop unroll(disable)
	for (int i = 0; i < REPORT_QUOTE_BYTES / sizeof(*words); i++) {
		words[i] = 0;
		asm volatile("" ::: "memory"); /* or the compiler makes it a memset of more than it can write out */
	}
}

/* Bytes of the packet that are quoted; 0 when they cannot be read. */
static __always_inline __u32 report_quote(struct packet *packet, struct report_message *message)
{
	__u32 length = packet->ip_length, limit = packet->is_ipv4 ? REPORT_IPV4_QUOTE_BYTES : REPORT_QUOTE_BYTES;

	report_quote_clear(message);
	if (length > limit)
		length = limit;
	return report_quote_load(packet->context, length) ? 0 : length;
}

/* The sum of all of the message; the kernel before 6.13 sums no more than 512 bytes at once. */
static __always_inline __u32 report_sum(struct report_message *message, __u32 seed)
{
	__u8 *bytes = (void *)message;

#pragma unroll
	for (int i = 0; i < 5; i++)
		seed = bytes_sum(bytes + i * (sizeof(*message) / 5), sizeof(*message) / 5, seed);
	return seed;
}

_Static_assert(sizeof(struct report_message) % (5 * 4) == 0, "report_sum");

/* The headers of the error about the packet, whose own they follow; `length` bytes of message come after them. */
static __always_inline bool report_set_headers(struct packet *packet, struct report_headers *headers,
					       const struct address *source, __u32 length)
{
	struct ethhdr *ethernet = packet->data;
	struct iphdr *ip = (void *)(ethernet + 1);

	if ((void *)(ip + 1) > packet->data_end)
		return false;
	__builtin_memset(headers, 0, sizeof(*headers));
	__builtin_memcpy(headers->ethernet.h_dest, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(headers->ethernet.h_source, ethernet->h_dest, ETH_ALEN);
	headers->ethernet.h_proto = ethernet->h_proto;
	if (packet->is_ipv4) {
		headers->ipv4.version = 4;
		headers->ipv4.ihl = sizeof(headers->ipv4) / 4;
		headers->ipv4.tos = REPORT_TOS(ip->tos);
		headers->ipv4.tot_len = bpf_htons(sizeof(headers->ipv4) + length);
		headers->ipv4.id = bpf_get_prandom_u32();
		headers->ipv4.ttl = REPORT_TTL;
		headers->ipv4.protocol = IPPROTO_ICMP;
		headers->ipv4.saddr = source->words[3];
		headers->ipv4.daddr = packet->tuple->source.words[3];
		headers->ipv4.check = ~checksum_fold(bytes_sum(&headers->ipv4, sizeof(headers->ipv4), 0));
	} else {
		headers->ipv6.version = 6;
		headers->ipv6.payload_len = bpf_htons(length);
		headers->ipv6.nexthdr = IPPROTO_ICMPV6;
		headers->ipv6.hop_limit = REPORT_TTL;
		__builtin_memcpy(&headers->ipv6.saddr, source, sizeof(headers->ipv6.saddr));
		__builtin_memcpy(&headers->ipv6.daddr, &packet->tuple->source, sizeof(headers->ipv6.daddr));
	}
	return true;
}

/* Turns the packet into one of `length` bytes, whatever they are, without any offload. A change of length takes segmentation
 * away; a checksum that was left to a device is forgotten when its place is pulled off the front, hence the detour (Linux,
 * skb_postpull_rcsum). */
static __always_inline bool report_resize(struct packet *packet, __u32 length)
{
	return !bpf_skb_change_tail(packet->context, length + REPORT_PULL, 0) &&
	       !bpf_skb_adjust_room(packet->context, -REPORT_PULL, BPF_ADJ_ROOM_MAC, 0);
}

/* Where the kernel has summed the packet, that sum goes along. It is of what follows the Ethernet header. */
static __always_inline bool report_store(struct packet *packet, struct report_headers *headers, __u32 length)
{
	__u32 network = packet->is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct __sk_buff *skb = packet->context;

	if (!report_resize(packet, ETH_HLEN + network + length))
		return false;
	return !bpf_skb_store_bytes(skb, 0, &headers->ethernet, ETH_HLEN, BPF_F_INVALIDATE_HASH) &&
	       !(packet->is_ipv4
			 ? bpf_skb_store_bytes(skb, ETH_HLEN, &headers->ipv4, sizeof(headers->ipv4), BPF_F_RECOMPUTE_CSUM)
			 : bpf_skb_store_bytes(skb, ETH_HLEN, &headers->ipv6, sizeof(headers->ipv6), BPF_F_RECOMPUTE_CSUM)) &&
	       !report_message_store(skb, ETH_HLEN + network, length);
}

static __always_inline enum verdict report_send(struct packet *packet, struct report_message *message, enum reason reason,
						__u32 mtu)
{
	struct __sk_buff *skb = packet->context;
	__u32 length = sizeof(message->header);
	struct report_headers headers;
	struct address source;
	__u64 pseudo = 0;

	length += report_quote(packet, message);
	if (length == sizeof(message->header) || !report_source(packet, &source) ||
	    !report_set_headers(packet, &headers, &source, length))
		return VERDICT_DROP;
	report_set_message(packet, &message->header, reason, mtu);
	if (!packet->is_ipv4)
		pseudo = icmpv6_pseudo_sum(&source, &packet->tuple->source, length);
	message->header.checksum = ~checksum_fold(report_sum(message, checksum_fold(pseudo)));
	if (!report_store(packet, &headers, length))
		return VERDICT_DROP;
	packet->action = bpf_redirect(skb->ifindex, 0);
	return VERDICT_REDIRECTED;
}

/* The packet as it came is dropped either way, and counted for why. */
static __always_inline enum verdict report(struct packet *packet)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct __sk_buff *skb = packet->context;
	enum reason reason = skb->cb[TC_NOTE_REASON];

	packet->reason = reason;
	if (!scratch || !report_is_due(packet, reason))
		return VERDICT_DROP;
	if (!report_is_allowed(reason)) {
		reason_count(REASON_REPORT_LIMITED);
		return VERDICT_DROP;
	}
	return report_send(packet, &scratch->report, reason, skb->cb[TC_NOTE_MTU]);
}

#endif
