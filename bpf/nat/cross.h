/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* ICMP errors about packets of flows between IPv4 and IPv6: the error becomes one of the other family, and so does the packet
 * that it quotes (RFC 7915, 4.2, 4.3, 5.2, 5.3). Its sender has no address there: it is from whom the packet was sent to. */
#ifndef FASTNAT_NAT_CROSS_H
#define FASTNAT_NAT_CROSS_H

#include "icmp.h"
#include "report.h"

/* An IPv6 header is so many bytes longer than an IPv4 one. */
#define FAMILY_DIFFERENCE ((__u32)(sizeof(struct ipv6hdr) - sizeof(struct iphdr)))

/* Codes of ICMPV4_DESTINATION_UNREACHABLE that are one in ICMPv6 (RFC 7915, 4.2). */
#define CODES_NO_ROUTE (1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 12)
#define CODES_PROHIBITED (1 << 9 | 1 << 10 | 1 << 13 | 1 << 15)

/* An error in the other family. */
struct crossing {
	__u32 type;
	__u32 code;
	__u32 rest;    /* host byte order */
	bool has_mtu;  /* which is `rest` */
	bool is_known; /* there is such an error */
};

/* Where a field of the IPv4 header stands in the IPv6 header (RFC 7915, 4.2, figure 3); -1: nowhere. */
static __always_inline int pointer_to_ipv6(__u32 pointer)
{
	if (pointer < 2)
		return pointer;
	if (pointer < 4)
		return 4;
	if (pointer == 8 || pointer == 9)
		return 15 - pointer;
	if (pointer >= 12 && pointer < 20)
		return pointer < 16 ? 8 : 24;
	return -1;
}

/* The reverse (5.2, figure 6). */
static __always_inline int pointer_to_ipv4(__u32 pointer)
{
	if (pointer < 2)
		return pointer;
	if (pointer == 4 || pointer == 5)
		return 2;
	if (pointer == 6 || pointer == 7)
		return 15 - pointer;
	if (pointer >= 8 && pointer < 40)
		return pointer < 24 ? 12 : 16;
	return -1;
}

static __always_inline void crossing_set(struct crossing *crossing, __u32 type, __u32 code, int rest)
{
	crossing->type = type;
	crossing->code = code;
	crossing->rest = rest;
	crossing->is_known = rest >= 0;
}

static __always_inline void crossing_set_unreachable_ipv6(struct crossing *crossing, __u32 code, __u32 rest)
{
	__u32 mtu = rest & 0xffff;

	if (code > 15)
		return;
	if (CODES_NO_ROUTE >> code & 1)
		crossing_set(crossing, ICMPV6_DEST_UNREACH, ICMPV6_NOROUTE, 0);
	else if (CODES_PROHIBITED >> code & 1)
		crossing_set(crossing, ICMPV6_DEST_UNREACH, ICMPV6_ADM_PROHIBITED, 0);
	else if (code == ICMPV4_PORT_UNREACHABLE)
		crossing_set(crossing, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0);
	else if (code == ICMPV4_PROTOCOL_UNREACHABLE)
		crossing_set(crossing, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, offsetof(struct ipv6hdr, nexthdr));
	else if (code == ICMPV4_FRAGMENTATION_NEEDED)
		crossing_set(crossing, ICMPV6_PKT_TOOBIG, 0, mtu + FAMILY_DIFFERENCE);
	crossing->has_mtu = code == ICMPV4_FRAGMENTATION_NEEDED;
}

/* What the ICMPv4 error says, in ICMPv6. */
static __always_inline void crossing_set_ipv6(struct crossing *crossing, const struct icmp_header *icmp)
{
	__u32 rest = bpf_ntohl(icmp->rest);

	if (icmp->type == ICMPV4_DESTINATION_UNREACHABLE)
		crossing_set_unreachable_ipv6(crossing, icmp->code, rest);
	else if (icmp->type == ICMPV4_TIME_EXCEEDED)
		crossing_set(crossing, ICMPV6_TIME_EXCEED, icmp->code, 0);
	else if (icmp->code == 0 || icmp->code == 2) /* a parameter problem; 1: an option is missing */
		crossing_set(crossing, ICMPV6_PARAMPROB, ICMPV6_HDR_FIELD, pointer_to_ipv6(rest >> 24));
}

/* What the ICMPv6 error says, in ICMPv4. */
static __always_inline void crossing_set_ipv4(struct crossing *crossing, const struct icmp_header *icmp)
{
	__u32 rest = bpf_ntohl(icmp->rest);

	if (icmp->type == ICMPV6_TIME_EXCEED) {
		crossing_set(crossing, ICMPV4_TIME_EXCEEDED, icmp->code, 0);
	} else if (icmp->type == ICMPV6_PKT_TOOBIG) {
		crossing->has_mtu = true;
		crossing_set(crossing, ICMPV4_DESTINATION_UNREACHABLE, ICMPV4_FRAGMENTATION_NEEDED,
			     rest < IPV6_MINIMUM_MTU ? IPV6_MINIMUM_MTU - FAMILY_DIFFERENCE
			     : rest > MTU_UNKNOWN    ? MTU_UNKNOWN
						     : rest - FAMILY_DIFFERENCE);
	} else if (icmp->type == ICMPV6_PARAMPROB && icmp->code == ICMPV6_HDR_FIELD) {
		crossing_set(crossing, ICMPV4_PARAMETER_PROBLEM, 0, pointer_to_ipv4(rest));
		crossing->rest <<= 24;
	} else if (icmp->type == ICMPV6_PARAMPROB && icmp->code == ICMPV6_UNK_NEXTHDR) {
		crossing_set(crossing, ICMPV4_DESTINATION_UNREACHABLE, ICMPV4_PROTOCOL_UNREACHABLE, 0);
	} else if (icmp->type == ICMPV6_DEST_UNREACH && icmp->code <= ICMPV6_PORT_UNREACH) {
		crossing_set(crossing, ICMPV4_DESTINATION_UNREACHABLE,
			     icmp->code == ICMPV6_PORT_UNREACH     ? ICMPV4_PORT_UNREACHABLE
			     : icmp->code == ICMPV6_ADM_PROHIBITED ? ICMPV4_HOST_PROHIBITED
								   : ICMPV4_HOST_UNREACHABLE,
			     0);
	}
}

/* Bytes of the quoted packet that the error has; extensions behind it (RFC 4884), which few read, stay behind. */
static __always_inline __u32 quote_available(struct packet *packet, const struct icmp_header *icmp)
{
	__u32 length = packet->ip_length - (packet->transport_offset - ETH_HLEN) - sizeof(*icmp);
	__u32 rest = bpf_ntohl(icmp->rest), stated;

	if (packet->is_ipv4)
		stated = (rest >> 16 & 0xff) * 4;
	else
		stated = icmp->type == ICMPV6_DEST_UNREACH || icmp->type == ICMPV6_TIME_EXCEED ? (rest >> 24) * 8 : 0;
	return stated && stated < length ? stated : length;
}

/* Copies what follows the quoted IP header into the message in this CPU's scratch, behind a header of the other family. */
__noinline int crossing_load(struct __sk_buff *skb, __u32 offset, __u32 length, __u32 header_length)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch)
		return -1;
	report_quote_clear(&scratch->report);
	if (header_length == sizeof(struct iphdr))
		return length_is_within(&length, 1, REPORT_IPV4_QUOTE_BYTES - sizeof(struct iphdr))
			       ? bpf_skb_load_bytes(skb, offset, scratch->report.quote + sizeof(struct iphdr), length)
			       : -1;
	return length_is_within(&length, 1, REPORT_QUOTE_BYTES - sizeof(struct ipv6hdr))
		       ? bpf_skb_load_bytes(skb, offset, scratch->report.quote + sizeof(struct ipv6hdr), length)
		       : -1;
}

/* What the quoted IP header says. */
static __always_inline void quote_read_fields(const struct quote *quote, bool is_ipv4, struct ip_fields *fields)
{
	const struct ipv6hdr *ipv6 = (void *)quote->bytes;
	const struct iphdr *ipv4 = (void *)quote->bytes;

	fields->protocol = quote->tuple.protocol;
	fields->traffic_class = is_ipv4 ? ipv4->tos : (__u8)(ipv6->priority << 4 | ipv6->flow_lbl[0] >> 4);
	fields->ttl = is_ipv4 ? ipv4->ttl : ipv6->hop_limit;
	fields->payload = is_ipv4 ? bpf_ntohs(ipv4->tot_len) - quote->transport
				  : bpf_ntohs(ipv6->payload_len) + sizeof(*ipv6) - quote->transport;
}

/* Makes the quoted packet one of `sent`, of the other family, in the message in this CPU's scratch. Its length there; 0: it
 * cannot be read. */
__noinline int crossing_quote(struct __sk_buff *skb, const struct tuple *sent, __u32 available, __u32 delta)
{
	struct scratch *scratch = map_only_element(&scratches);
	__u32 header_length, limit, length;
	struct ip_fields fields;
	bool to_ipv4;

	if (!scratch || !sent || available <= scratch->quote.transport)
		return 0;
	to_ipv4 = address_is_ipv4(&sent->source);
	header_length = to_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	limit = (to_ipv4 ? REPORT_IPV4_QUOTE_BYTES : REPORT_QUOTE_BYTES) - header_length;
	length = available - scratch->quote.transport;
	if (length > limit)
		length = limit;
	if (crossing_load(skb, scratch->quote.offset + scratch->quote.transport, length, header_length))
		return 0;
	quote_read_fields(&scratch->quote, !to_ipv4, &fields);
	if (to_ipv4) {
		ipv4_header_make((void *)scratch->report.quote, &fields, &sent->source, &sent->destination);
		transport_restore((void *)scratch->report.quote + sizeof(struct iphdr), length, sent, delta);
	} else {
		ipv6_header_make((void *)scratch->report.quote, &fields, &sent->source, &sent->destination);
		transport_restore((void *)scratch->report.quote + sizeof(struct ipv6hdr), length, sent, delta);
	}
	return header_length + length;
}

/* Writes the message, `length` bytes of it, and a header of the other family in front. */
static __always_inline bool crossing_store(struct packet *packet, const struct rewrite *rewrite, const struct ip_fields *fields,
					   __u32 length)
{
	__u32 before = packet->is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	/* First the length, then what is in it: the way there takes bytes off the front. */
	return !tc_checksum_forget(packet->context) && !bpf_skb_change_tail(packet->context, ETH_HLEN + before + length, 0) &&
	       ip_header_replace(packet, fields, rewrite) && rewrite_ethernet(packet, &rewrite->next_hop) &&
	       !report_message_store(packet->context, packet->transport_offset, length);
}

/* The error as it is to be, without its checksum. */
static __always_inline void crossing_header(struct packet *packet, const struct icmp_header *icmp, const struct route *route,
					    struct icmp_header *header, bool *is_known)
{
	struct crossing crossing = {};

	if (packet->is_ipv4)
		crossing_set_ipv6(&crossing, icmp);
	else
		crossing_set_ipv4(&crossing, icmp);
	if (crossing.has_mtu && crossing.rest > route->next_hop.mtu)
		crossing.rest = route->next_hop.mtu;
	if (crossing.has_mtu && packet->is_ipv4 && crossing.rest < IPV6_MINIMUM_MTU) /* also of a router that names none */
		crossing.rest = IPV6_MINIMUM_MTU;
	header->type = crossing.type;
	header->code = crossing.code;
	header->checksum = 0;
	header->rest = bpf_htonl(crossing.rest);
	*is_known = crossing.is_known;
}

static __always_inline enum verdict crossing_send(struct packet *packet, struct rewrite *rewrite, const struct tuple *sent,
						  __u32 delta)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct icmp_header *icmp = packet_transport(packet);
	struct route *route = route_of(packet, rewrite);
	struct ip_fields fields;
	__u32 length, available;
	__u64 pseudo = 0;
	bool is_known;

	if (!route || !scratch)
		return packet_refuse(packet, REASON_NO_ROUTE);
	if ((void *)(icmp + 1) > packet->data_end || !ip_fields_read(packet, &fields))
		return packet_refuse(packet, REASON_UNTRANSLATABLE);
	available = quote_available(packet, icmp);
	crossing_header(packet, icmp, route, &scratch->report.header, &is_known);
	length = crossing_quote(packet->context, sent, available, delta);
	if (!is_known || !length)
		return packet_refuse(packet, REASON_UNTRANSLATABLE);
	length += sizeof(*icmp);
	fields.protocol = packet->is_ipv4 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	fields.payload = length;
	if (packet->is_ipv4)
		pseudo = icmpv6_pseudo_sum(&rewrite->source, &rewrite->destination, length);
	next_hop_copy(&rewrite->next_hop, &route->next_hop);
	scratch->report.header.checksum = ~checksum_fold(report_sum(&scratch->report, checksum_fold(pseudo)));
	if (!crossing_store(packet, rewrite, &fields, length))
		return packet_refuse(packet, REASON_UNTRANSLATABLE);
	return redirect_to_neighbour(packet, route);
}

/* STAGE_TRANSLATE, for an error that STAGE_ICMP has found to be about a flow of two families, and sound. */
static __always_inline enum verdict error_cross(struct packet *packet)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_reference reference;
	struct rewrite rewrite = {};
	struct tuple *sent;
	__u32 delta;

	if (!scratch || !error_find_flow(packet, &scratch->quote, &reference))
		return packet_refuse(packet, REASON_FLOW_RACE);
	sent = &scratch->candidate;
	flow_tuple(reference.flow, entry_slot(reference.entry), !entry_direction(reference.entry), sent);
	delta = tuples_address_delta(&scratch->quote.tuple, sent) + tuples_port_delta(&scratch->quote.tuple, sent);
	if (!flow_reference_holds(&reference) || address_is_ipv4(&sent->source) == packet->is_ipv4)
		return packet_refuse(packet, REASON_FLOW_RACE);
	if (packet_ttl_is_used_up(packet))
		return packet_refuse(packet, REASON_TTL_EXPIRED);
	rewrite.source = sent->destination;
	rewrite.destination = sent->source;
	return crossing_send(packet, &rewrite, sent, delta);
}

#endif
