/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The fast lane of attached programs, for most packets there are: IPv4 without options, UDP or TCP, of a flow that its first
 * bucket leads to; and from clients, those that are expected to begin one. All others are left, untouched, to the pipeline,
 * which would do the same with these; but there parser and look-up know more kinds, and what they find stands in memory. */
#ifndef FASTNAT_PIPELINE_LANE_H
#define FASTNAT_PIPELINE_LANE_H

#include "begin.h"

/* As parse_ipv4, of packets that the lane takes. */
static __always_inline bool lane_parse_network(struct packet *packet)
{
	const struct ethhdr *ethernet = packet->data;
	const struct iphdr *ip = packet->data + ETH_HLEN;

	if ((half_word_at(&ethernet->h_proto) & PLAIN_IPV4_MASK) != PLAIN_IPV4 ||
	    ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return false;
	packet->is_ipv4 = true;
	packet->transport_offset = PLAIN_TRANSPORT_OFFSET;
	packet->ip_length = bpf_ntohs(ip->tot_len);
	address_set_ipv4(&packet->tuple->source, ip->saddr);
	address_set_ipv4(&packet->tuple->destination, ip->daddr);
	return packet_has(packet, ETH_HLEN + packet->ip_length);
}

/* As parse_transport. */
static __always_inline bool lane_parse_transport(struct packet *packet, __u8 protocol)
{
	const struct udphdr *udp = packet->data + PLAIN_TRANSPORT_OFFSET;
	const struct tcphdr *tcp = (const void *)udp;
	__u32 available = packet->ip_length - sizeof(struct iphdr), length;

	tuple_set_ports(packet->tuple, protocol, udp->source, udp->dest);
	if (packet->ip_length < sizeof(struct iphdr))
		return false;
	if (protocol == IPPROTO_UDP) {
		length = bpf_ntohs(udp->len);
		packet->headers_length = sizeof(struct iphdr) + sizeof(*udp);
		packet->tcp_flags = 0;
		packet->without_checksum = !udp->check;
		return length >= sizeof(*udp) && length <= available;
	}
	length = (((const __u8 *)tcp)[TCP_FLAGS_OFFSET - 1] >> 4) * 4;
	packet->headers_length = sizeof(struct iphdr) + length;
	packet->tcp_flags = ((const __u8 *)tcp)[TCP_FLAGS_OFFSET];
	packet->without_checksum = false;
	return length >= sizeof(*tcp) && length <= available;
}

static __always_inline __u64 lane_hash(const struct packet *packet)
{
	const struct tuple *tuple = packet->tuple;

	return tuple_hash_ipv4(tuple->source.words[3], tuple->source_port, tuple->destination.words[3], tuple->destination_port,
			       tuple->protocol, layout.hash_keys);
}

/* Whether the flow that the entry leads to is the packet's. */
static __always_inline bool lane_flow_matches(const struct packet *packet, struct flow_reference *reference)
{
	const struct iphdr *ip = packet->data + ETH_HLEN;
	const struct udphdr *transport = packet->data + PLAIN_TRANSPORT_OFFSET;
	const struct ipv4_ends *ends;

	reference->flow = entry_flow(reference->entry);
	if (!reference->flow)
		return false;
	ends = flow_ends(reference->flow, entry_direction(reference->entry));
	return word_at(&ends->source) == word_at(&ip->saddr) &&
	       half_word_at(&ends->source_port) == half_word_at(&transport->source) &&
	       READ_ONCE(reference->flow->state.kind) == packet->tuple->protocol;
}

static __always_inline bool lane_find(struct packet *packet, struct clock *clock, struct flow_reference *reference)
{
	__u64 hash = lane_hash(packet);
	struct flow_bucket *bucket = bucket_at(bucket_first(hash));
	__u32 place;

	if (!bucket)
		return false;
	hash |= ENTRY_USED;
#pragma clang loop unroll(disable)
	for (place = 0; place < BUCKET_ENTRIES; place++) {
		reference->position = &bucket->entries[place];
		reference->entry = READ_ONCE(bucket->entries[place]);
		if (!((reference->entry ^ hash) >> 31))
			goto found;
	}
	return false;
found:
	/* Or the verifier would go through the program for each place. */
	place = verifier_forget(place, hash);
	reference->position = bucket_place(bucket, place);
	if (!lane_flow_matches(packet, reference))
		return false;
	train_look(train_of(clock, packet), packet, reference, bucket_first(hash), place);
	return true;
}

/* Whether the packet is one that the pipeline would look for only where it has to. */
static __always_inline bool lane_expects(const struct packet *packet)
{
	return packet->streak >= STREAK_EXPECTED || tcp_flags_begin(packet->tcp_flags);
}

/* As first_packet_is_expected, of clients' packets. */
static __always_inline bool lane_begin(struct packet *packet, struct clock *clock, enum verdict *verdict)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (packet->side != SIDE_UPLINK || !scratch || !first_packet_is_likely(packet) || !packet_may_begin(packet))
		return false;
	packet->hash = lane_hash(packet);
	clock->streaks[packet->side] = 0;
	flow_index_expect(packet->hash);
	first_packet_note(packet, scratch, 0, true);
	*verdict = packet_continue(packet, STAGE_BEGIN);
	return true;
}

static __always_inline bool lane_run(struct packet *packet, __u8 protocol, enum verdict *verdict)
{
	struct clock *clock = map_only_element(&clocks);
	struct flow_reference reference;

	packet->now = clock_now(clock);
	packet->streak = clock && packet->side < SIDES_THAT_BEGIN ? clock->streaks[packet->side] : 0;
	if (!clock || !lane_parse_network(packet) || !lane_parse_transport(packet, protocol))
		return false;
	if (lane_expects(packet))
		return lane_begin(packet, clock, verdict);
	if (!lane_find(packet, clock, &reference))
		return false;
	if (packet->streak) /* it has begun no flow */
		clock->streaks[packet->side] = 0;
	*verdict = forward(packet, &reference);
	return true;
}

/* With a tuple of its own, whose address no function gets that is not inlined: so it is kept in registers. */
static __always_inline bool lane_run_apart(struct packet *packet, __u8 protocol, enum verdict *verdict)
{
	struct tuple tuple, *other = packet->tuple;
	bool taken;

	packet->tuple = &tuple;
	packet->in_lane = true;
	packet->train = NULL;
	taken = lane_run(packet, protocol, verdict);
	packet->tuple = other;
	packet->in_lane = false;
	return taken;
}

/* Whether the lane has taken the packet: what its verdict is then. */
static __always_inline bool lane(struct packet *packet, enum verdict *verdict)
{
	const struct iphdr *ip = packet->data + ETH_HLEN;
	const void *transport = packet->data + PLAIN_TRANSPORT_OFFSET;

	if (packet->stage != STAGE_ATTACHED || packet->side == SIDE_HOST || !packet_is_for_host(packet) ||
	    transport + sizeof(struct udphdr) > packet->data_end)
		return false;
	if (train_run(packet, verdict))
		return true;
	if (ip->protocol == IPPROTO_UDP)
		return lane_run_apart(packet, IPPROTO_UDP, verdict);
	return ip->protocol == IPPROTO_TCP && transport + sizeof(struct tcphdr) <= packet->data_end &&
	       lane_run_apart(packet, IPPROTO_TCP, verdict);
}

#endif
