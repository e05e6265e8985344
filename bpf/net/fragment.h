/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Ethernet → IPv4 or IPv6 → fragment. Fills in struct packet as packet_parse does, and the datagram's key; changes nothing. */
#ifndef FASTNAT_NET_FRAGMENT_H
#define FASTNAT_NET_FRAGMENT_H

#include "parse.h"

/* The first fragment does not hold all of the TCP header, or a later one begins within it: made to get past filters that look
 * at first fragments (RFC 1858, RFC 3128, RFC 7112). */
static __always_inline bool fragment_is_tiny(const struct packet *packet, const struct tcphdr *tcp, __u32 available)
{
	return packet->tuple->protocol == IPPROTO_TCP &&
	       (available < sizeof(*tcp) || (void *)(tcp + 1) > packet->data_end || tcp->doff * 4 > available);
}

static __always_inline enum parse_result fragment_parse_later(struct packet *packet, __u32 offset, __u32 length)
{
	packet->is_later_fragment = true;
	packet->echo = ECHO_NONE;
	packet->is_tiny_fragment = packet->tuple->protocol == IPPROTO_TCP && offset < sizeof(struct tcphdr);
	packet->headers_length = packet->transport_offset - ETH_HLEN;
	packet->tcp_flags = 0;
	packet->without_checksum = false;
	packet->tuple->source_port = 0;
	packet->tuple->destination_port = 0;
	/* Beyond what a datagram can be: "ping of death". */
	return length && offset + length <= 0xffff ? PARSE_OK : PARSE_MALFORMED;
}

/* `available` bytes of the transport packet are in this fragment; when more follow, its header says how many there are in all.
 */
static __always_inline enum parse_result fragment_parse_first(struct packet *packet, void *transport, __u32 available,
							      bool more)
{
	struct udphdr *ports = transport; /* TCP's stand in the same place */

	if (available < sizeof(*ports) || (void *)(ports + 1) > packet->data_end)
		return PARSE_MALFORMED;
	packet->is_first_fragment = more;
	if (!fragment_is_tiny(packet, transport, available))
		return parse_transport(packet, transport, more ? 0xffff : available);
	packet->is_tiny_fragment = true;
	packet->headers_length = packet->transport_offset - ETH_HLEN;
	packet->tcp_flags = 0;
	packet->without_checksum = false;
	packet->tuple->source_port = ports->source;
	packet->tuple->destination_port = ports->dest;
	return PARSE_OK;
}

static __always_inline enum parse_result fragment_parse_ipv4(struct packet *packet, struct fragment_key *key)
{
	struct iphdr *ip = packet->data + ETH_HLEN;
	__u32 header_length, offset, length;

	if ((void *)(ip + 1) > packet->data_end || ip->version != 4 || ip->ihl < 5)
		return PARSE_MALFORMED;
	header_length = ip->ihl * 4;
	if (!packet_set_length(packet, bpf_ntohs(ip->tot_len), header_length))
		return PARSE_MALFORMED;
	if (!protocol_has_ports(ip->protocol) && ip->protocol != IPPROTO_ICMP)
		return PARSE_FOREIGN;
	packet->is_ipv4 = true;
	packet->transport_offset = ETH_HLEN + header_length;
	packet->tuple->protocol = ip->protocol;
	address_set_ipv4(&packet->tuple->source, ip->saddr);
	address_set_ipv4(&packet->tuple->destination, ip->daddr);
	key->identification = ip->id;
	offset = (bpf_ntohs(ip->frag_off) & IPV4_FRAGMENT_OFFSET) * 8;
	length = packet->ip_length - header_length;
	if (offset)
		return fragment_parse_later(packet, offset, length);
	return fragment_parse_first(packet, (void *)ip + header_length, length, ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS));
}

static __always_inline enum parse_result fragment_parse_ipv6(struct packet *packet, struct fragment_key *key)
{
	struct ipv6hdr *ip = packet->data + ETH_HLEN;
	struct fragment_header *fragment = (void *)(ip + 1);
	__u32 header_length = sizeof(*ip) + sizeof(*fragment), offset, length;

	if ((void *)(fragment + 1) > packet->data_end || ip->version != 6)
		return PARSE_MALFORMED;
	if (!packet_set_length(packet, bpf_ntohs(ip->payload_len) + sizeof(*ip), header_length))
		return PARSE_MALFORMED;
	/* RFC 8200 lets the next header of later fragments differ from the first's; nobody sends such. */
	if (!protocol_has_ports(fragment->next_header) && fragment->next_header != IPPROTO_ICMPV6)
		return PARSE_FOREIGN;
	packet->is_ipv4 = false;
	packet->transport_offset = ETH_HLEN + header_length;
	packet->tuple->protocol = fragment->next_header;
	address_set_ipv6(&packet->tuple->source, &ip->saddr);
	address_set_ipv6(&packet->tuple->destination, &ip->daddr);
	if (address_is_ipv4(&packet->tuple->source) || address_is_ipv4(&packet->tuple->destination))
		return PARSE_FOREIGN; /* as parse_ipv6 has it */
	key->identification = fragment->identification;
	offset = bpf_ntohs(fragment->place) & FRAGMENT_OFFSET;
	length = packet->ip_length - header_length;
	if (offset)
		return fragment_parse_later(packet, offset, length);
	return fragment_parse_first(packet, fragment + 1, length, fragment->place & bpf_htons(FRAGMENT_MORE));
}

/* For what packet_parse calls PARSE_FRAGMENT. An IPv6 packet in a single fragment (RFC 6946) is no first one: none follows.
 * PARSE_FOREIGN: the stack's; of a first fragment, those that follow are, too. */
static __always_inline enum parse_result fragment_parse(struct packet *packet, struct fragment_key *key)
{
	struct ethhdr *ethernet = packet->data;
	enum parse_result result;

	if ((void *)(ethernet + 1) > packet->data_end)
		return PARSE_FOREIGN;
	result = ethernet->h_proto == bpf_htons(ETH_P_IP) ? fragment_parse_ipv4(packet, key) : fragment_parse_ipv6(packet, key);
	if (result == PARSE_ERROR) /* its checksum is that of a message that is not here */
		result = PARSE_FOREIGN;
	if (result != PARSE_OK && result != PARSE_ECHO && !packet->is_first_fragment)
		return result;
	key->source = packet->tuple->source;
	key->destination = packet->tuple->destination;
	key->protocol = packet->tuple->protocol;
	key->side = packet->side;
	__builtin_memset(key->zero, 0, sizeof(key->zero));
	return result;
}

#endif
