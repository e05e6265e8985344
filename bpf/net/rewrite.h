/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Writes a translation into a packet: addresses, ports, TTL, checksums and, where known, the Ethernet addresses. */
#ifndef FASTNAT_NET_REWRITE_H
#define FASTNAT_NET_REWRITE_H

#include "checksum.h"
#include "sctp.h"

/* What to write. Copied out of a flow, so that a flow that changes meanwhile cannot tear it. */
struct rewrite {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 address_delta; /* checksum_delta */
	__u32 port_delta;
	struct next_hop next_hop;
};

/* A transport header begins at most 74 bytes into the frame. The barrier keeps the compiler from dropping the mask, which the
 * verifier needs to see; as it is not volatile, the compiler may still do all this once. */
static __always_inline void *packet_transport(struct packet *packet)
{
	__u32 offset = packet->transport_offset;

	if (packet->in_lane)
		return packet->data + offset;
	asm("" : "+r"(offset));
	return packet->data + (offset & 0x7f);
}

/* Whether the packet ends before `end`. In attached programs it stays where packet_parse has looked at all up to the end of an
 * IPv4 header, and the verifier remembers that. */
static __always_inline bool packet_ends_before(const struct packet *packet, const void *end)
{
	return packet->stage != STAGE_ATTACHED && end > packet->data_end;
}

static __always_inline bool packet_ttl_is_used_up(struct packet *packet)
{
	if (packet->is_ipv4) {
		struct iphdr *ip = packet->data + ETH_HLEN;

		return packet_ends_before(packet, ip + 1) || ip->ttl <= 1;
	}
	struct ipv6hdr *ip = packet->data + ETH_HLEN;

	return (void *)(ip + 1) > packet->data_end || ip->hop_limit <= 1;
}

static __always_inline bool rewrite_ethernet(struct packet *packet, const struct next_hop *next_hop)
{
	struct ethhdr *ethernet = packet->data;

	if (packet_ends_before(packet, ethernet + 1))
		return false;
	macs_copy(ethernet, next_hop->destination_mac);
	return true;
}

static __always_inline bool rewrite_network(struct packet *packet, const struct rewrite *rewrite)
{
	if (packet->is_ipv4) {
		struct iphdr *ip = packet->data + ETH_HLEN;

		if (packet_ends_before(packet, ip + 1))
			return false;
		ip->ttl--;
		ip->saddr = rewrite->source.words[3];
		ip->daddr = rewrite->destination.words[3];
		ip->check = checksum_apply(ip->check, rewrite->address_delta + CHECKSUM_DELTA_TTL);
	} else {
		struct ipv6hdr *ip = packet->data + ETH_HLEN;

		if ((void *)(ip + 1) > packet->data_end)
			return false;
		if (packet->hook == HOOK_TC) /* no checksum of its own makes up for it */
			tc_checksum_follow(packet, (__u16)~bpf_htons(0x0001));
		ip->hop_limit--;
		__builtin_memcpy(&ip->saddr, &rewrite->source, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &rewrite->destination, sizeof(ip->daddr));
	}
	return true;
}

static __always_inline bool rewrite_identifier(struct packet *packet, const struct rewrite *rewrite)
{
	struct icmp_echo *echo = packet_transport(packet);

	if ((void *)(echo + 1) > packet->data_end)
		return false;
	echo->identifier = packet->echo == ECHO_REQUEST ? rewrite->source_port : rewrite->destination_port;
	return true;
}

static __always_inline bool rewrite_ports(struct packet *packet, const struct rewrite *rewrite)
{
	struct udphdr *transport = packet_transport(packet); /* TCP's ports stand in the same place */

	if (packet_is_echo(packet))
		return rewrite_identifier(packet, rewrite);
	if ((void *)(transport + 1) > packet->data_end)
		return false;
	transport->source = rewrite->source_port;
	transport->dest = rewrite->destination_port;
	return true;
}

/* ICMPv4 has no pseudo header. */
static __always_inline __u32 icmp_address_delta(const struct packet *packet, const struct rewrite *rewrite)
{
	return packet->is_ipv4 ? 0 : rewrite->address_delta;
}

/* What becomes of a transport checksum by two one's complement sums: `addresses` belongs to the pseudo header, `ports` to what
 * is summed behind it. */
static __always_inline __u16 checksum_move(struct packet *packet, __u16 checksum, enum checksum_state state, __u32 addresses,
					   __u32 ports)
{
	if (state == CHECKSUM_PARTIAL) /* no complement */
		return checksum_fold_rest(checksum + addresses);
	if (state == CHECKSUM_COMPLETE && packet->is_ipv4) /* its header's own checksum has made up for the addresses already */
		tc_checksum_follow(packet, ~addresses);
	return checksum_apply(checksum, addresses + ports);
}

static __always_inline bool rewrite_checksum_here(struct packet *packet, const struct rewrite *rewrite,
						  enum checksum_state state)
{
	void *transport = packet_transport(packet);

	if (packet_is_echo(packet)) {
		struct icmp_header *icmp = transport;

		if ((void *)(icmp + 1) > packet->data_end)
			return false;
		icmp->checksum =
			checksum_move(packet, icmp->checksum, state, icmp_address_delta(packet, rewrite), rewrite->port_delta);
	} else if (packet->tuple->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = transport;

		if ((void *)(tcp + 1) > packet->data_end)
			return false;
		tcp->check = checksum_move(packet, tcp->check, state, rewrite->address_delta, rewrite->port_delta);
	} else if (!packet->without_checksum) {
		struct udphdr *udp = transport;

		if ((void *)(udp + 1) > packet->data_end)
			return false;
		udp->check = checksum_move(packet, udp->check, state, rewrite->address_delta, rewrite->port_delta);
		if (!udp->check) /* RFC 768: a sum of zero is sent as all ones, zero means none */
			udp->check = 0xffff;
	}
	return true;
}

/* At TC, where the kernel does not let a program know the checksum's state. */
static __always_inline bool rewrite_checksum_by_helper(struct packet *packet, const struct rewrite *rewrite)
{
	__u32 offset = packet->transport_offset;

	if (packet_is_echo(packet))
		return tc_checksum_update(packet, offset + ICMP_CHECKSUM_OFFSET, icmp_address_delta(packet, rewrite),
					  rewrite->port_delta, 0);
	if (packet->tuple->protocol == IPPROTO_TCP)
		return tc_checksum_update(packet, offset + TCP_CHECKSUM_OFFSET, rewrite->address_delta, rewrite->port_delta, 0);
	if (!packet->without_checksum)
		return tc_checksum_update(packet, offset + UDP_CHECKSUM_OFFSET, rewrite->address_delta, rewrite->port_delta,
					  BPF_F_MARK_MANGLED_0);
	return true;
}

static __always_inline bool rewrite_checksum(struct packet *packet, const struct rewrite *rewrite)
{
	enum checksum_state state = packet_checksum_state(packet);

	if (packet->hook == HOOK_TC && packet->without_checksum && !packet->is_ipv4) /* IPv4 has a checksum of its own */
		tc_checksum_follow(packet, rewrite->address_delta);
	return state == CHECKSUM_STATE_UNKNOWN ? rewrite_checksum_by_helper(packet, rewrite)
					       : rewrite_checksum_here(packet, rewrite, state);
}

/* At XDP, true when the transport checksum is for somebody behind us to complete: TC must take the packet. */
static __always_inline bool packet_checksum_is_partial(struct packet *packet)
{
	struct udphdr *udp = packet_transport(packet);
	struct sctp_header *sctp = (void *)udp;
	struct tcphdr *tcp = (void *)udp;

	if ((void *)(udp + 1) > packet->data_end) /* the shortest of them: rewrite_ports need not look again */
		return true;
	if (packet->tuple->protocol == IPPROTO_TCP)
		return (void *)(tcp + 1) > packet->data_end || checksum_is_partial(packet, tcp->check);
	if (packet->tuple->protocol == IPPROTO_SCTP)
		return (void *)(sctp + 1) > packet->data_end || sctp_checksum_is_partial(sctp);
	return checksum_is_partial(packet, udp->check);
}

/* A later fragment has no transport header; the first one's checksum makes up for its addresses, too. */
static __always_inline bool rewrite_later_fragment(struct packet *packet, const struct rewrite *rewrite)
{
	if (!rewrite_ethernet(packet, &rewrite->next_hop) || !rewrite_network(packet, rewrite))
		return false;
	if (!packet->is_ipv4) /* the IPv4 header has a checksum of its own */
		tc_checksum_follow(packet, rewrite->address_delta);
	return true;
}

/* false: the packet is now half rewritten and must be dropped. */
static __always_inline bool packet_rewrite(struct packet *packet, const struct rewrite *rewrite)
{
	if (packet->is_later_fragment)
		return rewrite_later_fragment(packet, rewrite);
	return rewrite_ethernet(packet, &rewrite->next_hop) && rewrite_network(packet, rewrite) &&
	       rewrite_ports(packet, rewrite) && rewrite_checksum(packet, rewrite);
}

#endif
