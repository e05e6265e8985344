/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* ICMP errors about packets that were translated: they go to the packet's sender, with the packet as he sent it (RFC 5508, 4).
 *
 * What an error quotes was sent by this host in one direction of a flow; reversed, it is the tuple of the packets that come in
 * where the error does. Errors change nothing about a flow: they keep none alive and end none (RFC 4787, REQ-12; RFC 5382,
 * REQ-10; RFC 5508, REQ-6). */
#ifndef FASTNAT_NAT_ICMP_H
#define FASTNAT_NAT_ICMP_H

#include "next_hop.h"
#include "options.h"

/* More than any link carries in one packet. */
#define MESSAGE_CHUNKS 64

/* The sum of `length` bytes of the packet, folded, added to the sum `seed`; -1 when they cannot be read. */
__noinline int message_sum(struct __sk_buff *skb, __u32 offset, __u32 length, __u32 seed)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch)
		return -1;
	for (int i = 0; i < MESSAGE_CHUNKS && length >= MESSAGE_CHUNK; i++) {
		if (bpf_skb_load_bytes(skb, offset, scratch->chunk, MESSAGE_CHUNK))
			return -1;
		seed = bytes_sum(scratch->chunk, MESSAGE_CHUNK, seed);
		offset += MESSAGE_CHUNK;
		length -= MESSAGE_CHUNK;
	}
	if (!length)
		return checksum_fold(seed);
	__builtin_memset(scratch->chunk, 0, MESSAGE_CHUNK);
	if (!length_is_within(&length, 1, MESSAGE_CHUNK - 1) || bpf_skb_load_bytes(skb, offset, scratch->chunk, length))
		return -1;
	return checksum_fold(bytes_sum(scratch->chunk, MESSAGE_CHUNK, seed));
}

/* RFC 5508, REQ-3. */
static __always_inline bool message_is_sound(struct packet *packet)
{
	__u32 length = packet->ip_length - (packet->transport_offset - ETH_HLEN);
	__u64 pseudo = packet->is_ipv4 ? 0 : icmpv6_pseudo_sum(&packet->tuple->source, &packet->tuple->destination, length);

	return message_sum(packet->context, packet->transport_offset, length, checksum_fold(pseudo)) == 0xffff;
}

/* What becomes of a sum over the addresses, or the ports, of one tuple when they become the other's. */
static __always_inline __u32 tuples_address_delta(const struct tuple *from, const struct tuple *to)
{
	return checksum_delta(checksum_sum_addresses(&from->source, &from->destination, false),
			      checksum_sum_addresses(&to->source, &to->destination, false));
}

static __always_inline __u32 tuples_port_delta(const struct tuple *from, const struct tuple *to)
{
	return ports_delta(from->source_port + from->destination_port, to->source_port + to->destination_port);
}

/* Where the error goes, and from whom. Whoever sends one on the containers' side has the address that they are known by on the
 * other (RFC 5508, REQ-5c); a router among the clients keeps its own. */
static __always_inline void error_rewrite(struct packet *packet, const struct tuple *expected, const struct tuple *sent,
					  struct rewrite *rewrite)
{
	const struct tuple *tuple = packet->tuple;

	rewrite->source = tuple->source;
	if (packet->side == SIDE_CONTAINER || address_equal(&tuple->source, &expected->source))
		rewrite->source = sent->destination;
	rewrite->destination = sent->source;
	rewrite->address_delta = checksum_delta(checksum_sum_addresses(&tuple->source, &tuple->destination, false),
						checksum_sum_addresses(&rewrite->source, &rewrite->destination, false));
}

/* Writes what the error quotes and moves its checksum, by `delta` as well. Invalidates packet->data. */
static __always_inline bool error_write(struct packet *packet, struct quote *quote, __u32 delta)
{
	struct icmp_header *icmp = packet_transport(packet);

	if ((void *)(icmp + 1) > packet->data_end)
		return false;
	icmp->checksum = checksum_apply(icmp->checksum, delta);
	return quote_store(packet, quote);
}

/* Sends the error on; its quote is written already and changes the message's sum by `delta`. */
static __always_inline enum verdict error_redirect(struct packet *packet, struct rewrite *rewrite, struct quote *quote,
						   __u32 delta)
{
	struct route *route;

	if (packet_ttl_is_used_up(packet))
		return packet_refuse(packet, REASON_TTL_EXPIRED);
	route = route_of(packet, rewrite);
	if (!route)
		return packet_refuse(packet, REASON_NO_ROUTE);
	if (packet->ip_length > route->next_hop.mtu)
		return packet_refuse(packet, REASON_TOO_BIG);
	next_hop_copy(&rewrite->next_hop, &route->next_hop);
	if (!packet->is_ipv4) /* the pseudo header's addresses count, too */
		delta += rewrite->address_delta;
	if (!rewrite_ethernet(packet, &rewrite->next_hop) || !rewrite_network(packet, rewrite) ||
	    !error_write(packet, quote, delta))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	return redirect_to_neighbour(packet, route);
}

/* The error is the flow's, and sound. */
static __always_inline enum verdict error_translate(struct packet *packet, const struct flow_reference *reference,
						    struct quote *quote)
{
	enum direction direction = entry_direction(reference->entry);
	struct rewrite rewrite;
	struct tuple sent = {};
	__u32 delta;

	flow_tuple(reference->flow, entry_slot(reference->entry), !direction, &sent);
	error_rewrite(packet, &quote->tuple, &sent, &rewrite);
	delta = quote_rewrite(quote, &sent, tuples_address_delta(&quote->tuple, &sent), tuples_port_delta(&quote->tuple, &sent),
			      packet->is_ipv4);
	if (!flow_reference_holds(reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	if (!(flow_flags(reference->flow) & FLOW_OF_HOST))
		return error_redirect(packet, &rewrite, quote, delta);
	/* For a socket of this host, whose port alone was changed. */
	return error_write(packet, quote, delta) ? VERDICT_PASS : packet_refuse(packet, REASON_CHECKSUM_UPDATE);
}

/* A reply that this host has passed on answers a request the other way (pipeline/known.h: echo_is_astray). */
static __always_inline bool quote_is_astray(const struct quote *quote, const struct flow_reference *reference)
{
	return quote->echo != ECHO_NONE &&
	       (quote->echo == ECHO_REQUEST) != (entry_direction(reference->entry) == DIRECTION_REPLY);
}

/* Whether the error is about a packet of a flow; then its quote can be read. */
static __always_inline bool error_find_flow(struct packet *packet, struct quote *quote, struct flow_reference *reference)
{
	return quote_load(packet, quote) && quote_read(quote, packet->is_ipv4) &&
	       address_equal(&packet->tuple->destination, &quote->tuple.destination) && flow_find(&quote->tuple, reference) &&
	       !(flow_flags(reference->flow) & FLOW_PATTERN) && !quote_is_astray(quote, reference);
}

/* An error about no flow is the stack's, whatever it says: it may be about a connection of the host. */
static __always_inline enum verdict error_forward(struct packet *packet)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_reference reference;
	struct quote *quote;

	if (!scratch)
		return VERDICT_PASS;
	quote = &scratch->quote;
	if (!error_find_flow(packet, quote, &reference))
		return VERDICT_PASS;
	if (quote->is_damaged || !message_is_sound(packet)) /* RFC 5508, REQ-3 */
		return packet_refuse(packet, REASON_BAD_ERROR);
	if (address_is_no_host(&packet->tuple->source))
		return packet_refuse(packet, REASON_MARTIAN_SOURCE);
	if (packet_is_source_routed(packet))
		return packet_refuse(packet, REASON_SOURCE_ROUTED);
	if (flow_flags(reference.flow) & FLOW_TRANSLATES)
		return packet_continue(packet, STAGE_TRANSLATE);
	return error_translate(packet, &reference, quote);
}

#endif
