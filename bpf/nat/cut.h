/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Fragmentation of an IPv4 packet that is too long for its next hop and may be fragmented (RFC 791, 2.3 and 3.2; RFC 4787,
 * REQ-13a). The packet is translated already: what is cut here is finished but for its length and, from a local sender, its
 * checksum. Each fragment but the last leaves as a clone; all have the Ethernet header of the whole. */
#ifndef FASTNAT_NAT_CUT_H
#define FASTNAT_NAT_CUT_H

#include "options.h"

#define IPV4_MIN_MTU 68 /* RFC 791, 3.2 */

static __always_inline bool packet_may_be_cut(struct packet *packet)
{
	struct iphdr *ip = packet->data + ETH_HLEN;

	return packet->is_ipv4 && !packet_is_gso(packet) && (void *)(ip + 1) <= packet->data_end &&
	       !(ip->frag_off & bpf_htons(IPV4_DONT_FRAGMENT));
}

/* Leaves the translated packet to STAGE_CUT. */
static __always_inline enum verdict packet_cut(struct packet *packet, const struct next_hop *next_hop)
{
	struct __sk_buff *skb = packet->context;

	skb->cb[TC_NOTE_IFINDEX] = next_hop->ifindex;
	skb->cb[TC_NOTE_MTU] = next_hop->mtu;
	return packet_continue(packet, STAGE_CUT);
}

static __always_inline struct iphdr *cut_header(struct cut *cut)
{
	return (void *)cut->frame + ETH_HLEN;
}

/* Copies the packet, and decides where to cut it. */
static __always_inline enum reason cut_plan(struct __sk_buff *skb, struct cut *cut)
{
	struct iphdr *ip = cut_header(cut);
	__u32 mtu = skb->cb[TC_NOTE_MTU];
	__u32 length = skb->len;

	if (!length_is_within(&length, ETH_HLEN + sizeof(*ip), CUT_FRAME_BYTES))
		return REASON_TOO_BIG;
	if (bpf_skb_load_bytes(skb, 0, cut->frame, length))
		return REASON_CUT_FAILED;
	cut->header_length = ip->ihl * 4;
	cut->payload = bpf_ntohs(ip->tot_len) - cut->header_length;
	cut->place = bpf_ntohs(ip->frag_off);
	if (mtu < IPV4_MIN_MTU || bpf_ntohs(ip->tot_len) + ETH_HLEN > length)
		return REASON_TOO_BIG;
	cut->step = (mtu - cut->header_length) & ~7U;
	return cut->payload > CUT_MAX_FRAGMENTS * cut->step ? REASON_TOO_BIG : REASON_NONE;
}

/* The one's complement sum of the transport packet, in parts that bpf_csum_diff takes (512 bytes up to Linux 6.12). */
static __always_inline __u64 cut_sum_payload(struct cut *cut)
{
	__u32 start = ETH_HLEN + cut->header_length, rest = cut->payload;
	__u64 sum = 0;

	if (start > ETH_HLEN + 60 || !length_is_within(&rest, 1, CUT_FRAME_BYTES))
		return 0;
	__builtin_memset(cut->frame + start + rest, 0, 3);
#pragma clang loop unroll(disable)
	for (__u32 done = 0; done < CUT_FRAME_BYTES; done += 512) {
		__u32 part = rest - done;

		if (done >= rest)
			break;
		if (part > 512)
			part = 512;
		sum = checksum_fold(bpf_csum_diff(NULL, 0, (void *)(cut->frame + start + done), (part + 3) & 0x3fc, sum));
	}
	return sum;
}

/* Nothing here can compute a CRC that was left to a device (net/sctp.h). */
static __always_inline bool cut_has_crc(struct cut *cut)
{
	__u32 offset = ETH_HLEN + cut->header_length;
	struct sctp_header *sctp;

	if (offset > ETH_HLEN + 60)
		return false;
	sctp = (void *)cut->frame + offset;
	return !sctp_checksum_is_partial(sctp);
}

/* A local sender left the checksum to a device (CHECKSUM_PARTIAL): the field holds the sum of the pseudo header. A finished
 * checksum that looks the same comes out as it was. */
__noinline int cut_complete_checksum(void)
{
	struct cut *cut = map_only_element(&cuts);
	struct iphdr *ip;
	__u32 offset;
	__u16 *checksum;
	__u64 pseudo;

	if (!cut)
		return -1;
	ip = cut_header(cut);
	if (cut->place & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET) || ip->protocol == IPPROTO_ICMP) /* no device sums ICMP */
		return 0;
	if (ip->protocol == IPPROTO_SCTP)
		return cut_has_crc(cut) ? 0 : -1;
	offset = cut->header_length + (ip->protocol == IPPROTO_TCP ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET);
	if (offset > 60 + TCP_CHECKSUM_OFFSET)
		return -1;
	checksum = (void *)ip + offset;
	pseudo = (__u64)ip->saddr + ip->daddr + bpf_htons(ip->protocol) + bpf_htons(cut->payload);
	if (*checksum != checksum_fold(pseudo))
		return 0;
	*checksum = ~checksum_fold(cut_sum_payload(cut));
	if (!*checksum && ip->protocol == IPPROTO_UDP) /* RFC 768: zero means none */
		*checksum = 0xffff;
	return 0;
}

/* Blanks the options that stand in the first fragment alone, as Linux does. */
__noinline int cut_blank_options(void)
{
	struct cut *cut = map_only_element(&cuts);
	__u32 rest = 0;
	bool blank = false;

	if (!cut)
		return -1;
#pragma clang loop unroll(disable)
	for (__u32 i = sizeof(struct iphdr); i < 60 && i < cut->header_length; i++) {
		__u8 *option = cut->frame + ETH_HLEN + i;

		if (!rest) {
			rest = *option > IPV4_OPTION_NOOP ? option[1] : 1;
			blank = *option > IPV4_OPTION_NOOP && !(*option & IPV4_OPTION_COPIED);
			if (*option == IPV4_OPTION_END || !rest)
				return 0;
		}
		if (blank)
			*option = IPV4_OPTION_NOOP;
		rest--;
	}
	return 0;
}

/* Makes the socket buffer the fragment that begins `offset` bytes into what is cut. 0, or -1: no memory. */
__noinline int cut_make(struct __sk_buff *skb, __u32 offset)
{
	struct cut *cut = map_only_element(&cuts);
	__u32 headers, length;
	struct iphdr *ip;
	bool more;

	if (!cut)
		return -1;
	ip = cut_header(cut);
	headers = ETH_HLEN + cut->header_length;
	length = cut->payload - offset;
	more = length > cut->step;
	if (more)
		length = cut->step;
	if (offset > CUT_FRAME_BYTES || !length_is_within(&headers, ETH_HLEN + sizeof(*ip), ETH_HLEN + 60) ||
	    !length_is_within(&length, 1, CUT_FRAME_BYTES))
		return -1;
	ip->tot_len = bpf_htons(cut->header_length + length);
	ip->frag_off = bpf_htons((cut->place + offset / 8) | (more ? IPV4_MORE_FRAGMENTS : 0));
	ip->check = 0;
	ip->check = ~checksum_fold(bpf_csum_diff(NULL, 0, (void *)ip, headers - ETH_HLEN, 0));
	if (bpf_skb_change_tail(skb, headers + length, 0) || bpf_skb_store_bytes(skb, 0, cut->frame, headers, 0) ||
	    bpf_skb_store_bytes(skb, headers, cut->frame + headers + offset, length, 0))
		return -1;
	return 0;
}

/* The action for the last fragment, or why there is none. */
static __always_inline int cut_run(struct __sk_buff *skb, enum reason *reason)
{
	__u32 ifindex = skb->cb[TC_NOTE_IFINDEX], offset = 0;
	struct cut *cut = map_only_element(&cuts);

	*reason = cut ? cut_plan(skb, cut) : REASON_CUT_FAILED;
	if (*reason != REASON_NONE)
		return TC_ACT_SHOT;
	*reason = REASON_CUT_FAILED;
	if (cut_complete_checksum() || tc_checksum_forget(skb))
		return TC_ACT_SHOT;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < CUT_MAX_FRAGMENTS; i++) {
		if (cut_make(skb, offset))
			return TC_ACT_SHOT;
		offset += cut->step;
		if (offset >= cut->payload) {
			*reason = REASON_NONE;
			return bpf_redirect(ifindex, 0);
		}
		bpf_clone_redirect(skb, ifindex, 0);
		if (!i)
			cut_blank_options();
	}
	return TC_ACT_SHOT;
}

#endif
