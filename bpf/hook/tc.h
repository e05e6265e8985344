/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* All that is peculiar to TC: socket buffers, their checksum states, and redirects out of them. */
#ifndef FASTNAT_HOOK_TC_H
#define FASTNAT_HOOK_TC_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include "packet.h"

/* TCX_NEXT and TC_ACT_UNSPEC: the next program, or the stack, goes on with the packet. */
#define TC_NEXT (-1)

/* Linux 6.16: the checksum of the skb must not follow an IPv6 address that the transport checksum makes up for. */
#ifndef BPF_F_IPV6
#define BPF_F_IPV6 (1ULL << 7)
#endif

/* Headers that must be linear: Ethernet, an IPv4 header with all options, TCP. */
#define TC_LINEAR_BYTES (14 + 60 + 20)

/* Whether all headers are in the linear part that are looked at. What a socket sends over TCP has its headers there, and its
 * data in pages; to pull any of that would copy the head of a packet that TCP has kept a clone of. Headers alone may be written
 * to. */
static __always_inline bool tc_headers_are_linear(const struct packet *packet)
{
	struct ethhdr *ethernet = packet->data;
	struct ipv6hdr *ipv6 = (void *)(ethernet + 1);
	struct iphdr *ipv4 = (void *)(ethernet + 1);
	__u8 protocol;

	if ((void *)(ipv4 + 1) + sizeof(struct tcphdr) > packet->data_end)
		return false;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP) && ipv4->ihl == sizeof(*ipv4) / 4)
		protocol = ipv4->protocol;
	else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6) && (void *)(ipv6 + 1) + sizeof(struct tcphdr) <= packet->data_end)
		protocol = ipv6->nexthdr;
	else
		return false;
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline void tc_packet_fetch(struct packet *packet)
{
	struct __sk_buff *skb = packet->context;

	packet->data = (void *)(long)skb->data;
	packet->data_end = (void *)(long)skb->data_end;
}

static __always_inline void tc_packet_init(struct packet *packet, struct __sk_buff *skb)
{
	packet->context = skb;
	packet->hook = HOOK_TC;
	tc_packet_fetch(packet);
	if (packet->data + TC_LINEAR_BYTES > packet->data_end && skb->len > packet->data_end - packet->data &&
	    !tc_headers_are_linear(packet)) {
		bpf_skb_pull_data(skb, skb->len < TC_LINEAR_BYTES ? skb->len : TC_LINEAR_BYTES);
		tc_packet_fetch(packet);
	}
}

/* Frames that the host would not take as its own, or that carry a VLAN tag, are left alone. */
static __always_inline bool tc_packet_is_for_host(struct packet *packet)
{
	struct __sk_buff *skb = packet->context;

	return skb->pkt_type == 0 /* PACKET_HOST */ && !skb->vlan_present;
}

/* gso_size of a GSO packet whose segments are as long as its sender has made each of them: SCTP (Linux, GSO_BY_FRAGS). */
#define TC_GSO_BY_FRAGMENTS 0xffff

/* Bytes of the longest IP packet that leaves when this one is segmented; 0: not known, its sender has minded the MTU. */
static __always_inline __u32 tc_packet_wire_length(struct packet *packet)
{
	struct __sk_buff *skb = packet->context;

	if (skb->gso_size == TC_GSO_BY_FRAGMENTS)
		return 0;
	return skb->gso_size ? skb->gso_size + packet->headers_length : packet->ip_length;
}

const volatile struct checksum_state_place checksum_state_place SEC(".rodata.kernel");

static const __u8 *(*const kernel_buffer)(struct __sk_buff *skb) = (void *)KERNEL_CAST_PLACEHOLDER;

static __always_inline enum checksum_state tc_checksum_state(struct packet *packet)
{
	if (!checksum_state_place.offset)
		return CHECKSUM_STATE_UNKNOWN;
	return kernel_buffer(packet->context)[checksum_state_place.offset] >> checksum_state_place.shift & 3;
}

/* Moves the transport checksum by two one's complement sums: `addresses` belongs to the pseudo header, so it also counts
 * where the checksum is still to be completed by the sender's device (CHECKSUM_PARTIAL); `ports` does not. Invalidates
 * packet->data. */
static __always_inline bool tc_checksum_update(struct packet *packet, __u32 offset, __u32 addresses, __u32 ports, __u64 flags)
{
	__u64 pseudo = flags | BPF_F_PSEUDO_HDR;
	long error = bpf_l4_csum_replace(packet->context, offset, 0, addresses, packet->is_ipv4 ? pseudo : pseudo | BPF_F_IPV6);

	if (error && !packet->is_ipv4) /* a kernel before BPF_F_IPV6 */
		error = bpf_l4_csum_replace(packet->context, offset, 0, addresses, pseudo);
	if (!error && ports % 0xffff) /* zero, in one's complement, else */
		error = bpf_l4_csum_replace(packet->context, offset, 0, ports, flags);
	return !error;
}

/* Makes sure that nobody takes what the socket buffer knows of its checksum for true of what is written into it next:
 * afterwards it is 256 bytes of anything after the Ethernet header, CHECKSUM_NONE. There is no helper for that, but pulling off
 * more than where a partial checksum begins ends CHECKSUM_PARTIAL (skb_postpull_rcsum, Linux 4.4), and growing ends
 * CHECKSUM_COMPLETE. */
static __always_inline long tc_checksum_forget(struct __sk_buff *skb)
{
	return bpf_skb_change_tail(skb, 256, 0) ?: bpf_skb_adjust_room(skb, -128, BPF_ADJ_ROOM_MAC, 0) ?: bpf_skb_change_tail(skb, 256, 0);
}

/* The checksum of the socket buffer, where the device has one (CHECKSUM_COMPLETE), follows a change of one's complement sum
 * `delta` that no checksum in the packet makes up for. */
static __always_inline void tc_checksum_follow(struct packet *packet, __u32 delta)
{
	bpf_csum_update(packet->context, delta);
}

/* What a program leaves for the one that goes on with its packet: words of the packet's control block. */
enum tc_note {
	TC_NOTE_SIDE,                     /* enum side */
	TC_NOTE_BEGUN,                    /* not 0: the packet has begun its flow in a stage before */
	TC_NOTE_RACES,                    /* how often another CPU was faster to begin it */
	TC_NOTE_REASON,                   /* STAGE_REPORT: enum reason that it is dropped for */
	TC_NOTE_MTU,                      /* STAGE_REPORT, for REASON_TOO_BIG, and STAGE_CUT: bytes that the way takes */
	TC_NOTE_IFINDEX = TC_NOTE_REASON, /* STAGE_CUT: where the packet leaves */
};

static __always_inline int tc_action(struct packet *packet, enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_REDIRECTED:
		return packet->action;
	case VERDICT_DROP:
	case VERDICT_TAKEN: /* tcx knows no TC_ACT_STOLEN */
		return TC_ACT_SHOT;
	default:
		return TC_NEXT;
	}
}

#endif
