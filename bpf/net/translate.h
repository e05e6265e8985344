/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Turns an IPv6 packet into an IPv4 one or the reverse (RFC 7915), TC alone: the kernel makes or takes the room. */
#ifndef FASTNAT_NET_TRANSLATE_H
#define FASTNAT_NET_TRANSLATE_H

#include "rewrite.h"

/* Up to this length an IPv4 packet made from an IPv6 one may be fragmented on its way: IPv6 asks for links that carry it, IPv4
 * does not (RFC 7915, 5.1). */
#define TRANSLATED_UNFRAGMENTED 1260

/* What the two kinds of IP headers have in common. */
struct ip_fields {
	__u8 traffic_class; /* DSCP and ECN */
	__u8 ttl;           /* already one less */
	__u8 protocol;
	__u16 payload; /* bytes behind the header */
};

static __always_inline bool ip_fields_read(struct packet *packet, struct ip_fields *fields)
{
	struct ipv6hdr *ipv6 = packet->data + ETH_HLEN;
	struct iphdr *ipv4 = packet->data + ETH_HLEN;

	fields->protocol = packet->tuple->protocol;
	fields->payload = packet->ip_length - (packet->transport_offset - ETH_HLEN);
	if ((void *)(ipv4 + 1) > packet->data_end)
		return false;
	if (packet->is_ipv4) {
		fields->traffic_class = ipv4->tos;
		fields->ttl = ipv4->ttl - 1;
		return true;
	}
	if ((void *)(ipv6 + 1) > packet->data_end)
		return false;
	fields->traffic_class = ipv6->priority << 4 | ipv6->flow_lbl[0] >> 4;
	fields->ttl = ipv6->hop_limit - 1;
	return true;
}

/* The identification only matters where the packet may be fragmented. */
static __always_inline void ipv4_header_make(struct iphdr *ip, const struct ip_fields *fields, const struct address *source,
					     const struct address *destination)
{
	__u16 length = sizeof(*ip) + fields->payload;
	__u16 *words = (void *)ip;
	__u64 sum = 0;

	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = fields->traffic_class;
	ip->tot_len = bpf_htons(length);
	if (length > TRANSLATED_UNFRAGMENTED)
		ip->frag_off = bpf_htons(IPV4_DONT_FRAGMENT);
	else
		ip->id = bpf_get_prandom_u32();
	ip->ttl = fields->ttl;
	ip->protocol = fields->protocol;
	ip->saddr = source->words[3];
	ip->daddr = destination->words[3];
#pragma unroll
	for (int i = 0; i < sizeof(*ip) / 2; i++)
		sum += words[i];
	ip->check = ~checksum_fold(sum);
}

static __always_inline void ipv6_header_make(struct ipv6hdr *ip, const struct ip_fields *fields, const struct address *source,
					     const struct address *destination)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 6;
	ip->priority = fields->traffic_class >> 4;
	ip->flow_lbl[0] = fields->traffic_class << 4;
	ip->payload_len = bpf_htons(fields->payload);
	ip->nexthdr = fields->protocol;
	ip->hop_limit = fields->ttl;
	__builtin_memcpy(&ip->saddr, source, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, destination, sizeof(ip->daddr));
}

/* Puts the new header in place. The sum of a valid IPv4 header is zero, so a checksum over the whole packet that the device
 * left (CHECKSUM_COMPLETE) only moves by that of the IPv6 one. */
static __always_inline bool ip_header_replace(struct packet *packet, const struct ip_fields *fields,
					      const struct rewrite *rewrite)
{
	union {
		struct iphdr ipv4;
		struct ipv6hdr ipv6;
	} header;
	__be16 type = packet->is_ipv4 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	__u32 length = packet->is_ipv4 ? sizeof(header.ipv6) : sizeof(header.ipv4);

	if (packet->is_ipv4)
		ipv6_header_make(&header.ipv6, fields, &rewrite->source, &rewrite->destination);
	else
		ipv4_header_make(&header.ipv4, fields, &rewrite->source, &rewrite->destination);
	if (bpf_skb_change_proto(packet->context, type, 0) ||
	    bpf_skb_store_bytes(packet->context, offsetof(struct ethhdr, h_proto), &type, sizeof(type), 0))
		return false;
	if (length == sizeof(header.ipv6) ? bpf_skb_store_bytes(packet->context, ETH_HLEN, &header, sizeof(header.ipv6), 0)
					  : bpf_skb_store_bytes(packet->context, ETH_HLEN, &header, sizeof(header.ipv4), 0))
		return false;
	packet->is_ipv4 = !packet->is_ipv4;
	packet->transport_offset = ETH_HLEN + length;
	tc_packet_fetch(packet);
	return true;
}

/* What neither family's packet can say in the other: IPv4 options, and UDP without a checksum in IPv6. */
static __always_inline bool packet_is_translatable(const struct packet *packet)
{
	return !packet->is_ipv4 || (packet->transport_offset == ETH_HLEN + sizeof(struct iphdr) && !packet->without_checksum);
}

/* false: the packet is now half translated and must be dropped. */
static __always_inline bool packet_translate(struct packet *packet, const struct rewrite *rewrite)
{
	struct ip_fields fields;

	return ip_fields_read(packet, &fields) && ip_header_replace(packet, &fields, rewrite) &&
	       rewrite_ethernet(packet, &rewrite->next_hop) && rewrite_ports(packet, rewrite) &&
	       rewrite_checksum(packet, rewrite);
}

#endif
