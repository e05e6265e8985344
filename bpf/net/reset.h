/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Ends a TCP connection at both ends: a segment of it is answered with a RST, as by an end that knows of no connection (RFC
 * 9293, 3.5.2), and goes on as a RST. */
#ifndef FASTNAT_NET_RESET_H
#define FASTNAT_NET_RESET_H

#include "rewrite.h"

#define RESET_TTL 64

/* What is needed of the segment. Both sequence numbers are the ones that the ends expect next, so they take the RSTs (RFC 5961,
 * 3.2); an end that expects another one asks by an ACK, whose answer has that. */
struct reset {
	__be32 sequence;
	__be32 acknowledgement;
	__be16 source_port;
	__be16 destination_port;
};

/* false: no answer. Everything has ACK set but a first SYN, which begins a new flow, and a RST, which must not be answered. */
static __always_inline bool reset_read(struct packet *packet, struct reset *reset)
{
	struct tcphdr *tcp = packet_transport(packet);

	if ((void *)(tcp + 1) > packet->data_end || (packet->tcp_flags & (TCP_ACK | TCP_RST)) != TCP_ACK)
		return false;
	reset->sequence = tcp->seq;
	reset->acknowledgement = tcp->ack_seq;
	reset->source_port = tcp->source;
	reset->destination_port = tcp->dest;
	return true;
}

/* Of the RST that goes the other way. */
static __always_inline void reset_reverse(struct reset *reset)
{
	struct reset forward = *reset;

	reset->sequence = forward.acknowledgement;
	reset->source_port = forward.destination_port;
	reset->destination_port = forward.source_port;
}

static __always_inline bool ethernet_reverse(struct packet *packet)
{
	struct ethhdr *ethernet = packet->data;
	__u8 mac[ETH_ALEN];

	if ((void *)(ethernet + 1) > packet->data_end)
		return false;
	__builtin_memcpy(mac, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(ethernet->h_dest, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, mac, ETH_ALEN);
	return true;
}

/* Headers of a RST that goes the other way than the packet does now. */
static __always_inline bool reset_write_ipv4(struct packet *packet)
{
	struct iphdr *ip = packet->data + ETH_HLEN;
	__be32 source;
	__u64 sum = 0;

	if ((void *)(ip + 1) > packet->data_end)
		return false;
	source = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = source;
	ip->tos = 0;
	ip->tot_len = bpf_htons(sizeof(struct iphdr) + sizeof(struct tcphdr));
	ip->id = 0;
	ip->frag_off = bpf_htons(IPV4_DONT_FRAGMENT);
	ip->ttl = RESET_TTL;
	ip->check = 0;
	for (int i = 0; i < sizeof(*ip) / sizeof(__u16); i++)
		sum += ((__u16 *)ip)[i];
	ip->check = ~checksum_fold(sum);
	return true;
}

static __always_inline bool reset_write_ipv6(struct packet *packet)
{
	struct ipv6hdr *ip = packet->data + ETH_HLEN;
	struct in6_addr source;

	if ((void *)(ip + 1) > packet->data_end)
		return false;
	source = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = source;
	ip->priority = 0;
	ip->flow_lbl[0] = 0;
	ip->flow_lbl[1] = 0;
	ip->flow_lbl[2] = 0;
	ip->payload_len = bpf_htons(sizeof(struct tcphdr));
	ip->hop_limit = RESET_TTL;
	return true;
}

/* Its checksum is 0 so far. */
static __always_inline bool reset_write_tcp(struct packet *packet, const struct reset *reset)
{
	struct tcphdr *tcp = packet_transport(packet);

	if ((void *)(tcp + 1) > packet->data_end)
		return false;
	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->source = reset->source_port;
	tcp->dest = reset->destination_port;
	tcp->seq = reset->sequence;
	tcp->doff = sizeof(*tcp) / 4;
	tcp->rst = 1;
	return true;
}

/* The helper adds the first sum, of the pseudo header, in any case, and the second, of the header, unless somebody behind us
 * is to complete the checksum of this socket buffer: then the field holds what he expects, too. */
static __always_inline bool reset_write_checksum(struct packet *packet, const struct reset *reset)
{
	__u64 pseudo = checksum_sum_address(&packet->tuple->source) + checksum_sum_address(&packet->tuple->destination) +
		       bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(struct tcphdr));
	__u64 header = (__u64)reset->source_port + reset->destination_port + reset->sequence +
		       bpf_htons(sizeof(struct tcphdr) / 4 << 12 | TCP_RST);

	return tc_checksum_update(packet, packet->transport_offset + TCP_CHECKSUM_OFFSET, checksum_fold(pseudo),
				  checksum_fold(header), 0);
}

/* Turns the packet round, and makes it the RST of `reset`. */
static __always_inline bool reset_write(struct packet *packet, const struct reset *reset)
{
	return ethernet_reverse(packet) && (packet->is_ipv4 ? reset_write_ipv4(packet) : reset_write_ipv6(packet)) &&
	       reset_write_tcp(packet, reset) && reset_write_checksum(packet, reset);
}

/* Answers the segment with a RST, and makes a RST of the segment itself, for the other end. false: it is none to be answered,
 * or half rewritten. */
static __always_inline bool packet_reset(struct packet *packet)
{
	struct __sk_buff *skb = packet->context;
	struct reset forward, back;

	/* IPv4 options would have to be answered, or taken out: nobody sends them with TCP. */
	if (packet->is_ipv4 && packet->transport_offset != ETH_HLEN + sizeof(struct iphdr))
		return false;
	if (!reset_read(packet, &forward) || bpf_skb_change_tail(skb, packet->transport_offset + sizeof(struct tcphdr), 0))
		return false;
	back = forward;
	reset_reverse(&back);
	tc_packet_fetch(packet);
	if (!reset_write(packet, &back))
		return false;
	bpf_clone_redirect(skb, skb->ifindex, 0);
	tc_packet_fetch(packet);
	return reset_write(packet, &forward);
}

#endif
