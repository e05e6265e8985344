/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* ICMP errors: what they quote of the packet that they are about, found, read and rewritten in a copy of its headers. */
#ifndef FASTNAT_NET_ICMP_H
#define FASTNAT_NET_ICMP_H

#include "rewrite.h"

/* An IPv4 header with all options and a TCP header without any; IPv6 with a fragment header needs less. */
#define QUOTE_BYTES (60 + 20)
/* Of the transport header there are at least so many (RFC 792). */
#define QUOTE_TRANSPORT_BYTES 8

/* The first bytes of the packet that an ICMP error is about, with its headers as the error's sender saw them. */
struct quote {
	__u8 bytes[QUOTE_BYTES]; /* zeros after `length` */
	struct tuple tuple;      /* of packets that go the other way */
	__u32 offset;            /* in the frame */
	__u32 length;            /* bytes that were there */
	__u32 transport;         /* where the transport header begins in `bytes` */
	enum echo echo;          /* that it is */
	bool is_damaged;         /* the checksum of its IPv4 header is wrong */
};

/* The sum of `length` bytes, a multiple of 4, added to the sum `seed`. */
static __always_inline __u32 bytes_sum(void *bytes, __u32 length, __u32 seed)
{
	return bpf_csum_diff(NULL, 0, bytes, length, seed);
}

/* false: there is nothing to be read. */
static __always_inline bool quote_load(struct packet *packet, struct quote *quote)
{
	__u32 length = packet->ip_length - (packet->transport_offset - ETH_HLEN) - sizeof(struct icmp_header);

	__builtin_memset(quote, 0, sizeof(*quote));
	if (length > QUOTE_BYTES)
		length = QUOTE_BYTES;
	if (!length_is_within(&length, 1, QUOTE_BYTES))
		return false;
	quote->length = length;
	quote->offset = packet->transport_offset + sizeof(struct icmp_header);
	return !bpf_skb_load_bytes(packet->context, quote->offset, quote->bytes, length);
}

static __always_inline bool quote_read_ipv4(struct quote *quote)
{
	struct iphdr *ip = (void *)quote->bytes;
	__u32 header_length = ip->ihl * 4;

	if (ip->version != 4 || header_length < sizeof(*ip) || quote->length < header_length + QUOTE_TRANSPORT_BYTES)
		return false;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)) /* has no ports */
		return false;
	quote->is_damaged = checksum_fold(bytes_sum(quote->bytes, header_length, 0)) != 0xffff;
	quote->transport = header_length;
	quote->tuple.protocol = ip->protocol;
	address_set_ipv4(&quote->tuple.destination, ip->saddr);
	address_set_ipv4(&quote->tuple.source, ip->daddr);
	return true;
}

static __always_inline bool quote_read_ipv6(struct quote *quote)
{
	struct ipv6hdr *ip = (void *)quote->bytes;
	struct fragment_header *fragment = (void *)(ip + 1);

	quote->transport = sizeof(*ip);
	quote->tuple.protocol = ip->nexthdr;
	if (ip->nexthdr == IPPROTO_FRAGMENT) {
		if (fragment->place & bpf_htons(FRAGMENT_OFFSET))
			return false;
		quote->transport += sizeof(*fragment);
		quote->tuple.protocol = fragment->next_header;
	}
	if (ip->version != 6 || quote->length < quote->transport + QUOTE_TRANSPORT_BYTES)
		return false;
	address_set_ipv6(&quote->tuple.destination, &ip->saddr);
	address_set_ipv6(&quote->tuple.source, &ip->daddr);
	if (address_is_ipv4(&quote->tuple.source) || address_is_ipv4(&quote->tuple.destination))
		return false;
	return true;
}

/* The quoted transport header; at least QUOTE_TRANSPORT_BYTES of it are there, and room for a TCP header. */
static __always_inline void *quote_transport(struct quote *quote)
{
	__u32 offset = quote->transport;

	asm volatile("" : "+r"(offset));
	return offset <= QUOTE_BYTES - sizeof(struct tcphdr) ? quote->bytes + offset : NULL;
}

/* An identifier is the port of the request's sender. */
static __always_inline bool quote_read_identifier(struct quote *quote, const struct icmp_echo *message)
{
	quote->echo = icmp_echo_kind(quote->tuple.protocol == IPPROTO_ICMP, message->type);
	if (quote->echo == ECHO_REQUEST) {
		quote->tuple.source_port = bpf_htons(ECHO_PORT);
		quote->tuple.destination_port = message->identifier;
	} else {
		quote->tuple.source_port = message->identifier;
		quote->tuple.destination_port = bpf_htons(ECHO_PORT);
	}
	return quote->echo != ECHO_NONE;
}

/* What stands in the places of ports, reversed. */
static __always_inline bool quote_read_ports(struct quote *quote, bool is_ipv4)
{
	struct udphdr *transport = quote_transport(quote); /* TCP's ports stand in the same place */

	if (transport && quote->tuple.protocol == (is_ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return quote_read_identifier(quote, (void *)transport);
	if (!transport || !protocol_has_ports(quote->tuple.protocol))
		return false;
	quote->tuple.destination_port = transport->source;
	quote->tuple.source_port = transport->dest;
	return true;
}

/* false: nothing that has ports is quoted, or too little of it. */
static __always_inline bool quote_read(struct quote *quote, bool is_ipv4)
{
	return (is_ipv4 ? quote_read_ipv4(quote) : quote_read_ipv6(quote)) && quote_read_ports(quote, is_ipv4);
}

static __always_inline void quote_write_network(struct quote *quote, const struct tuple *tuple, __u32 address_delta,
						bool is_ipv4)
{
	if (is_ipv4) {
		struct iphdr *ip = (void *)quote->bytes;

		ip->saddr = tuple->source.words[3];
		ip->daddr = tuple->destination.words[3];
		ip->check = checksum_apply(ip->check, address_delta);
	} else {
		struct ipv6hdr *ip = (void *)quote->bytes;

		__builtin_memcpy(&ip->saddr, &tuple->source, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &tuple->destination, sizeof(ip->daddr));
	}
}

/* Gives a quoted transport header, of which `available` bytes are there, the ports of `tuple`, and moves its checksum if that
 * is there, too. One that was wrong stays wrong. */
static __always_inline void transport_restore(struct udphdr *udp, __u32 available, const struct tuple *tuple, __u32 delta)
{
	struct tcphdr *tcp = (void *)udp;

	udp->source = tuple->source_port;
	udp->dest = tuple->destination_port;
	if (tuple->protocol == IPPROTO_TCP) {
		if (available >= TCP_CHECKSUM_OFFSET + sizeof(tcp->check))
			tcp->check = checksum_apply(tcp->check, delta);
	} else if (tuple->protocol == IPPROTO_UDP && udp->check) {
		udp->check = checksum_apply(udp->check, delta) ?: 0xffff;
	}
}

static __always_inline void quote_write_identifier(struct quote *quote, struct icmp_echo *message, const struct tuple *tuple,
						   __u32 delta)
{
	message->identifier = quote->echo == ECHO_REQUEST ? tuple->source_port : tuple->destination_port;
	message->checksum = checksum_apply(message->checksum, delta);
}

static __always_inline void quote_write_transport(struct quote *quote, const struct tuple *tuple, __u32 delta)
{
	struct udphdr *udp = quote_transport(quote);

	if (udp && quote->echo != ECHO_NONE)
		quote_write_identifier(quote, (void *)udp, tuple, delta);
	else if (udp)
		transport_restore(udp, quote->length - quote->transport, tuple, delta);
}

/* Makes the quoted packet one of `tuple`; the deltas are those of the flow's half that carries packets the other way: their
 * sums are the same. The sum to add to the checksum of the whole message. */
static __always_inline __u32 quote_rewrite(struct quote *quote, const struct tuple *tuple, __u32 address_delta,
					   __u32 port_delta, bool is_ipv4)
{
	__u32 before = bytes_sum(quote->bytes, QUOTE_BYTES, 0);
	bool covers_addresses = tuple->protocol != IPPROTO_ICMP;

	quote_write_network(quote, tuple, address_delta, is_ipv4);
	quote_write_transport(quote, tuple, (covers_addresses ? address_delta : 0) + port_delta);
	return checksum_delta(before, bytes_sum(quote->bytes, QUOTE_BYTES, 0));
}

static __always_inline bool quote_store(struct packet *packet, struct quote *quote)
{
	__u32 length = quote->length;

	if (!length_is_within(&length, 1, QUOTE_BYTES))
		return false;
	return !bpf_skb_store_bytes(packet->context, quote->offset, quote->bytes, length, 0);
}

/* The sum of the pseudo header that an ICMPv6 checksum covers (RFC 4443, 2.3). */
static __always_inline __u64 icmpv6_pseudo_sum(const struct address *source, const struct address *destination, __u32 length)
{
	return checksum_sum_address(source) + checksum_sum_address(destination) + bpf_htonl(length) + bpf_htonl(IPPROTO_ICMPV6);
}

#endif
