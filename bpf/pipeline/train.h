/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Packets come in trains: of one flow, one behind the other. The second of them notes what becomes of it, and where that is
 * said of its flow and its next hop; those behind it, in the same tick, get the same for as long as nothing there has changed
 * (docs/decisions/0048-what-a-train-gets.md). A packet of which there is more to ask is left to the lane. Each CPU has one
 * train at XDP, and one at TC for each side, and is at one frame at a time. */
#ifndef FASTNAT_PIPELINE_TRAIN_H
#define FASTNAT_PIPELINE_TRAIN_H

#include "../nat/next_hop.h"

/* Up to the end of the longer header. UDP packets that are shorter are none of a train. */
#define TRAIN_BYTES (PLAIN_TRANSPORT_OFFSET + sizeof(struct tcphdr))

/* Of the four bytes that begin with the fragment offset: that, which is zero, and the protocol; the TTL is between. */
#define TRAIN_PROTOCOL_MASK bpf_htonl((IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET) << 16 | 0xff)

/* Not where a helper of the kernel's is to move checksums: that is for the lane. */
static __always_inline bool train_is_possible(const struct packet *packet)
{
	return packet->hook == HOOK_XDP || checksum_state_place.offset;
}

static __always_inline struct train *train_of(struct clock *clock, const struct packet *packet)
{
	return &clock->trains[packet->hook == HOOK_XDP ? TRAIN_AT_XDP : packet->side];
}

/* Notes that a packet was looked up, and where it was found if the one before it was of its flow, too: before anything is read
 * of flow or next hop, so that whatever changes later is seen to have changed. */
static __always_inline void train_look(struct train *train, struct packet *packet, const struct flow_reference *reference,
				       __u32 bucket, __u32 place)
{
	const struct flow_half *half = flow_half(reference->flow, entry_direction(reference->entry));
	/* A packet of the flow changes nothing in it, unless it says so (flow_track). */
	__u32 settled = packet->tuple->protocol == IPPROTO_TCP ? SEEN_ANY | SEEN_ACK | SEEN_OPEN : SEEN_ANY;

	if (train->last == reference->entry && train_is_possible(packet) && !packet->without_checksum &&
	    packet->data + TRAIN_BYTES <= packet->data_end && (READ_ONCE(half->word) & settled) == settled) {
		train->until = 0;
		train->entry = reference->entry;
		train->bucket = bucket;
		train->place = place;
		train->state = word_at(&half->word);
		train->refreshed = READ_ONCE(half->refreshed);
		packet->train = train;
	}
	train->last = reference->entry;
}

/* Notes what has become of the packet. */
static __always_inline void train_begin(struct train *train, const struct packet *packet, const struct shared_hop *hop,
					const struct rewrite *rewrite, const struct shared_hop *arrival)
{
	const struct tuple *tuple = packet->tuple;

	train->addresses[0] = tuple->source.words[3];
	train->addresses[1] = tuple->destination.words[3];
	train->ports[0] = tuple->source_port;
	train->ports[1] = tuple->destination_port;
	train->protocol = bpf_htonl(tuple->protocol);
	mac_copy(train->arrival, arrival->next_hop.source_mac);
	train->pseudo_sum = checksum_sum_addresses(&tuple->source, &tuple->destination, true) + bpf_htons(tuple->protocol);
	train->hop = (const void *)hop - (const void *)&hops;
	train->ifindex = rewrite->next_hop.ifindex;
	train->sequence = rewrite->next_hop.sequence;
	macs_copy(train->macs, rewrite->next_hop.destination_mac);
	train->mtu = rewrite->next_hop.mtu;
	train->new_addresses[0] = rewrite->source.words[3];
	train->new_addresses[1] = rewrite->destination.words[3];
	train->new_ports[0] = rewrite->source_port;
	train->new_ports[1] = rewrite->destination_port;
	train->network_delta = rewrite->address_delta + CHECKSUM_DELTA_TTL;
	train->transport_delta = rewrite->address_delta + rewrite->port_delta;
	train->flags = rewrite->next_hop.flags;
	train->until = bpf_jiffies64() + 1;
}

/* Whether the packet is of the train, and has a hop to go. */
static __always_inline bool train_has(const struct train *train, const struct packet *packet)
{
	const struct ethhdr *ethernet = packet->data;
	const struct iphdr *ip = packet->data + ETH_HLEN;
	const struct udphdr *transport = packet->data + PLAIN_TRANSPORT_OFFSET;

	return word_at(&ip->saddr) == word_at(train->addresses) &&
	       half_word_at(&transport->source) == half_word_at(train->ports) &&
	       (half_word_at(&ethernet->h_proto) & PLAIN_IPV4_MASK) == PLAIN_IPV4 &&
	       (half_word_at(&ip->frag_off) & TRAIN_PROTOCOL_MASK) == train->protocol &&
	       mac_equal_wide(ethernet->h_dest, train->arrival) && ip->ttl > 1;
}

/* Whether what the UDP header or the TCP header has for a length is there, and the way takes the packet. At XDP, whether the
 * checksum is the packet's own. */
static __always_inline bool train_takes_transport(const struct train *train, struct packet *packet, __u32 length,
						  __u32 shortest, __u16 checksum)
{
	return length >= shortest && sizeof(struct iphdr) + length <= packet->ip_length &&
	       packet_wire_length(packet) <= train->mtu &&
	       (packet->hook == HOOK_TC ||
		!is_checksum_zero(train->pseudo_sum + bpf_htonl(packet->ip_length - sizeof(struct iphdr)) - checksum));
}

/* As lane_parse_network, lane_parse_transport, and xdp_packet_is_ordinary or tc_packet_refused. */
static __always_inline bool train_takes(const struct train *train, struct packet *packet, bool is_tcp)
{
	const struct iphdr *ip = packet->data + ETH_HLEN;
	const struct udphdr *udp = packet->data + PLAIN_TRANSPORT_OFFSET;
	const struct tcphdr *tcp = (const void *)udp;
	__u32 length;

	packet->is_ipv4 = true;
	packet->ip_length = bpf_ntohs(ip->tot_len);
	if (!packet_has(packet, ETH_HLEN + packet->ip_length))
		return false;
	if (!is_tcp) {
		packet->headers_length = sizeof(*ip) + sizeof(*udp);
		return udp->check && train_takes_transport(train, packet, bpf_ntohs(udp->len), sizeof(*udp), udp->check);
	}
	length = (((const __u8 *)tcp)[TCP_FLAGS_OFFSET - 1] >> 4) * 4;
	packet->headers_length = sizeof(*ip) + length;
	return (((const __u8 *)tcp)[TCP_FLAGS_OFFSET] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK &&
	       train_takes_transport(train, packet, length, sizeof(*tcp), tcp->check);
}

/* The half of the flow that carries the train, or NULL: something has changed. */
static __always_inline struct flow_half *train_half(const struct train *train)
{
	struct flow_bucket *bucket = bucket_at(train->bucket);
	struct flow *flow = entry_flow(train->entry);
	__u32 offset = train->hop;
	struct flow_half *half;

	if (!bucket || !flow || offset > sizeof(hops) - sizeof(struct shared_hop) ||
	    READ_ONCE(*bucket_place(bucket, train->place)) != train->entry)
		return NULL;
	half = flow_half(flow, entry_direction(train->entry));
	return word_at(&half->word) == train->state && READ_ONCE(half->refreshed) == train->refreshed &&
			       word_at((const void *)&hops + offset) == word_at(&train->ifindex)
		       ? half
		       : NULL;
}

/* As checksum_move. */
static __always_inline __u16 train_checksum(const struct train *train, struct packet *packet, __u16 checksum)
{
	enum checksum_state state = packet_checksum_state(packet);
	__u32 addresses = train->network_delta - CHECKSUM_DELTA_TTL;

	return checksum_move(packet, checksum, state, addresses, train->transport_delta - addresses);
}

static __always_inline void train_rewrite(const struct train *train, struct packet *packet, bool is_tcp)
{
	struct iphdr *ip = packet->data + ETH_HLEN;
	struct udphdr *udp = packet->data + PLAIN_TRANSPORT_OFFSET;
	struct tcphdr *tcp = (void *)udp;

	macs_copy(packet->data, train->macs);
	ip->ttl--;
	ip->check = checksum_apply(ip->check, train->network_delta);
	*(__u64 *)&ip->saddr = word_at(train->new_addresses);
	*(__u32 *)&udp->source = half_word_at(train->new_ports);
	if (is_tcp)
		tcp->check = train_checksum(train, packet, tcp->check);
	else
		udp->check = train_checksum(train, packet, udp->check) ?: 0xffff; /* RFC 768: zero means none */
}

static __always_inline bool train_carry(struct train *train, struct packet *packet, __u64 now, bool is_tcp)
{
	struct flow_half *half;

	if (!train_takes(train, packet, is_tcp))
		return false;
	half = train_half(train);
	if (!half)
		return false;
	train_rewrite(train, packet, is_tcp);
	flow_account(half, packet, now);
	return true;
}

/* Whether the packet has gone the way of those before it: what its verdict is then. */
static __always_inline bool train_run(struct packet *packet, enum verdict *verdict)
{
	struct clock *clock;
	struct train *train;

	if (!train_is_possible(packet) || packet->data + TRAIN_BYTES > packet->data_end)
		return false;
	clock = map_only_element(&clocks);
	if (!clock)
		return false;
	train = train_of(clock, packet);
	if (bpf_jiffies64() >= train->until || !train_has(train, packet))
		return false;
	if (!(train->protocol == bpf_htonl(IPPROTO_TCP) ? train_carry(train, packet, clock->now, true)
							: train_carry(train, packet, clock->now, false)))
		return false;
	if (packet->side < SIDES_THAT_BEGIN)
		clock->streaks[packet->side] = 0; /* it has begun no flow */
	*verdict = packet->hook == HOOK_XDP ? redirect_frame(packet, train->ifindex)
					    : redirect_to_output(packet, train->ifindex, train->flags);
	return true;
}

#endif
