/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Ethernet → IPv4 or IPv6 → TCP, UDP, SCTP, ICMP echo or an ICMP error. Fills in struct packet; changes nothing. */
#ifndef FASTNAT_NET_PARSE_H
#define FASTNAT_NET_PARSE_H

#include "address.h"
#include "sctp.h"

enum parse_result {
	PARSE_OK,
	PARSE_FOREIGN,   /* well, but nothing that is translated: not ours */
	PARSE_MALFORMED, /* left to the stack, counted */
	PARSE_FRAGMENT,  /* left to the stack, counted */
	PARSE_ERROR,     /* an ICMP error, about a packet that may be ours */
	PARSE_ECHO, /* an ICMP echo; everything is set as for PARSE_OK but in attached programs, which have no use for it */
};

/* Protocols that are read further. ICMP is TC's alone: at XDP it is foreign. */
static __always_inline bool protocol_is_known(const struct packet *packet, __u8 protocol, __u8 icmp)
{
	return protocol_has_ports(protocol) || (packet->hook == HOOK_TC && protocol == icmp);
}

static __always_inline enum parse_result parse_echo(struct packet *packet, const struct icmp_echo *echo)
{
	bool is_request = packet->echo == ECHO_REQUEST;

	if (packet->stage == STAGE_ATTACHED)
		return PARSE_ECHO;
	packet->tcp_flags = 0;
	packet->headers_length = packet->transport_offset - ETH_HLEN + sizeof(*echo);
	packet->without_checksum = false;
	packet->tuple->source_port = is_request ? echo->identifier : bpf_htons(ECHO_PORT);
	packet->tuple->destination_port = is_request ? bpf_htons(ECHO_PORT) : echo->identifier;
	return PARSE_ECHO;
}

static __always_inline enum parse_result parse_icmp(struct packet *packet, const struct icmp_header *icmp, __u32 available)
{
	bool is_error;

	if (packet->hook == HOOK_XDP)
		return PARSE_FOREIGN;
	if (available < sizeof(*icmp) || (void *)(icmp + 1) > packet->data_end)
		return PARSE_FOREIGN;
	packet->echo = icmp_echo_kind(packet->is_ipv4, icmp->type);
	if (packet->echo != ECHO_NONE)
		return parse_echo(packet, (const void *)icmp);
	if (packet->is_ipv4)
		is_error = icmp->type == ICMPV4_DESTINATION_UNREACHABLE || icmp->type == ICMPV4_TIME_EXCEEDED ||
			   icmp->type == ICMPV4_PARAMETER_PROBLEM;
	else
		is_error = icmp->type >= ICMPV6_DEST_UNREACH && icmp->type <= ICMPV6_PARAMPROB;
	return is_error ? PARSE_ERROR : PARSE_FOREIGN;
}

static __always_inline enum parse_result parse_transport(struct packet *packet, void *transport, __u32 available)
{
	struct sctp_header *sctp = transport;
	struct udphdr *udp = transport;
	struct tcphdr *tcp = transport;

	if (packet->tuple->protocol == IPPROTO_TCP) {
		if (available < sizeof(*tcp) || (void *)(tcp + 1) > packet->data_end)
			return PARSE_MALFORMED;
		if (tcp->doff < 5 || tcp->doff * 4 > available)
			return PARSE_MALFORMED;
		packet->tcp_flags = ((__u8 *)tcp)[TCP_FLAGS_OFFSET];
		packet->headers_length = packet->transport_offset - ETH_HLEN + tcp->doff * 4;
		packet->without_checksum = false;
	} else if (packet->tuple->protocol == IPPROTO_UDP) {
		if (available < sizeof(*udp) || (void *)(udp + 1) > packet->data_end)
			return PARSE_MALFORMED;
		/* Behind a GSO packet's header stands the length of all of it, or of one segment. */
		if (bpf_ntohs(udp->len) < sizeof(*udp) || bpf_ntohs(udp->len) > available)
			return PARSE_MALFORMED;
		packet->tcp_flags = 0;
		packet->headers_length = packet->transport_offset - ETH_HLEN + sizeof(*udp);
		packet->without_checksum = !udp->check;
	} else if (packet->tuple->protocol == IPPROTO_SCTP) {
		if (available < sizeof(*sctp) || (void *)(sctp + 1) > packet->data_end)
			return PARSE_MALFORMED;
		packet->tcp_flags = sctp_flags(sctp);
		packet->headers_length = packet->transport_offset - ETH_HLEN + SCTP_COMMON_BYTES;
		packet->without_checksum = true;
	} else {
		return parse_icmp(packet, transport, available);
	}
	tuple_set_ports(packet->tuple, packet->tuple->protocol, udp->source, udp->dest);
	return PARSE_OK;
}

/* `length` is what the IP header says; 0 where it has no room for it, as in a GSO packet over 64 KiB (BIG TCP). */
static __always_inline bool packet_set_length(struct packet *packet, __u32 length, __u32 header_length)
{
	__u32 frame = packet_frame_length(packet, ETH_HLEN + length) - ETH_HLEN;

	if (!length) {
		if (!packet_is_gso(packet))
			return false;
		length = frame;
	}
	packet->ip_length = length;
	return length >= header_length && length <= frame;
}

static __always_inline enum parse_result parse_ipv4(struct packet *packet)
{
	struct iphdr *ip = packet->data + ETH_HLEN;
	__u32 header_length;

	if ((void *)(ip + 1) > packet->data_end || ip->version != 4 || ip->ihl < 5)
		return PARSE_MALFORMED;
	header_length = ip->ihl * 4;
	if (!packet_set_length(packet, bpf_ntohs(ip->tot_len), header_length))
		return PARSE_MALFORMED;
	if (!protocol_is_known(packet, ip->protocol, IPPROTO_ICMP))
		return PARSE_FOREIGN;
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return PARSE_FRAGMENT;
	packet->is_ipv4 = true;
	packet->transport_offset = ETH_HLEN + header_length;
	packet->tuple->protocol = ip->protocol;
	address_set_ipv4(&packet->tuple->source, ip->saddr);
	address_set_ipv4(&packet->tuple->destination, ip->daddr);
	return parse_transport(packet, (void *)ip + header_length, packet->ip_length - header_length);
}

static __always_inline enum parse_result parse_ipv6(struct packet *packet)
{
	struct ipv6hdr *ip = packet->data + ETH_HLEN;

	if ((void *)(ip + 1) > packet->data_end || ip->version != 6)
		return PARSE_MALFORMED;
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return PARSE_FRAGMENT;
	if (!protocol_is_known(packet, ip->nexthdr, IPPROTO_ICMPV6))
		return PARSE_FOREIGN;
	packet->is_ipv4 = false;
	if (!packet_set_length(packet, ip->payload_len ? bpf_ntohs(ip->payload_len) + sizeof(*ip) : 0, sizeof(*ip)))
		return PARSE_MALFORMED;
	packet->transport_offset = ETH_HLEN + sizeof(*ip);
	packet->tuple->protocol = ip->nexthdr;
	address_set_ipv6(&packet->tuple->source, &ip->saddr);
	address_set_ipv6(&packet->tuple->destination, &ip->daddr);
	/* An IPv4-mapped address must not be on the wire (RFC 4038, 4.2); here it would be taken for IPv4. */
	if (address_is_ipv4(&packet->tuple->source) || address_is_ipv4(&packet->tuple->destination))
		return PARSE_FOREIGN;
	return parse_transport(packet, ip + 1, packet->ip_length - sizeof(*ip));
}

static __always_inline enum parse_result packet_parse(struct packet *packet)
{
	struct ethhdr *ethernet = packet->data;

	if ((void *)(ethernet + 1) > packet->data_end)
		return PARSE_FOREIGN;
	tuple_set_ports(packet->tuple, 0, 0, 0);
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(packet);
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(packet);
	return PARSE_FOREIGN;
}

#endif
