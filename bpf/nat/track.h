/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What a packet says about the state of its flow.
 *
 * Each direction collects what it has carried in its own half (enum flow_seen); a flow's state follows from the two. So no
 * state machine is shared between CPUs, and a packet of an open flow that is no FIN or RST writes nothing here. */
#ifndef FASTNAT_NAT_TRACK_H
#define FASTNAT_NAT_TRACK_H

#include "flow.h"

/* RFC 7857, section 2: after a FIN from both sides, or a RST, the transitory timeout holds. A FIN from one side leaves the
 * other free to send for as long as it likes (half-closed, RFC 9293, 3.6). */
static __always_inline bool flow_is_closing(const struct flow *flow)
{
	__u32 original = READ_ONCE(flow->original.word), reply = READ_ONCE(flow->reply.word);

	return (original | reply) & SEEN_RST || original & reply & SEEN_FIN || flow_is_cut(flow);
}

/* An open flow that is closing because the client's side has carried a RST, and for no other reason. Anybody who knows its
 * addresses and ports can send that (RFC 5961, 1): its connection may live on. */
static __always_inline bool flow_is_in_doubt(const struct flow *flow)
{
	__u32 original = READ_ONCE(flow->original.word), reply = READ_ONCE(flow->reply.word);

	return flow_state(flow).phase == FLOW_OPEN && original & SEEN_RST && !(reply & SEEN_RST) &&
	       !(original & reply & SEEN_FIN);
}

/* A new connection on the addresses and ports of one that has ended (RFC 9293, 3.6.1: TIME-WAIT assassination by SYN). */
static __always_inline bool flow_is_reused(const struct flow *flow, const struct packet *packet, enum direction direction)
{
	return direction == DIRECTION_ORIGINAL && tcp_flags_begin(packet->tcp_flags) && flow_is_closing(flow);
}

static __always_inline __u32 packet_seen(const struct packet *packet)
{
	__u32 seen = SEEN_ANY;

	if (!protocol_has_handshake(packet->tuple->protocol))
		return seen;
	if (packet->tcp_flags & TCP_SYN)
		seen |= SEEN_SYN;
	if (packet->tcp_flags & TCP_ACK) /* with a SYN as well: simultaneous open, or a handshake that is split */
		seen |= SEEN_ACK;
	if (packet->tcp_flags & TCP_FIN)
		seen |= SEEN_FIN;
	if (packet->tcp_flags & TCP_RST)
		seen |= SEEN_RST;
	return seen;
}

/* UDP is open once both sides have sent; TCP once the client has acknowledged the server's SYN, and again when anything but a
 * RST follows a RST; SCTP likewise, by the chunks that mean that (net/sctp.h). */
static __always_inline bool flow_may_open(const struct flow *flow, const struct packet *packet, enum direction direction)
{
	if (!protocol_has_handshake(packet->tuple->protocol))
		return READ_ONCE((direction == DIRECTION_REPLY ? &flow->original : &flow->reply)->word) & SEEN_ANY;
	if ((packet->tcp_flags & (TCP_ACK | TCP_RST)) != TCP_ACK)
		return false;
	return READ_ONCE(flow->reply.word) & SEEN_SYN && READ_ONCE(flow->original.word) & SEEN_ACK;
}

/* RFC 7857, 2.2: a RST has the flow wait for what else comes. Until then neither direction takes it for open. */
static __always_inline void flow_doubt(struct flow *flow)
{
	__sync_fetch_and_and(&flow->original.word, ~SEEN_OPEN);
	__sync_fetch_and_and(&flow->reply.word, ~SEEN_OPEN);
}

/* Opens the flow, or has it open again after a RST. Of a RST and this at the same time either may win; in no order is the RST
 * left standing with a direction that asks no more. */
static __always_inline void flow_try_open(const struct flow_reference *reference, struct flow_half *half)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct flow *flow = reference->flow;
	struct flow_state state;

	if (!flow_reference_state(reference, &state))
		return;
	if (state.phase == FLOW_HALF_OPEN && flow_turn(flow, state, FLOW_OPEN) && gauges)
		gauges_add(gauges, kind_is_wide(state.kind), 0, -1);
	__sync_fetch_and_or(&half->word, SEEN_OPEN);
	if ((READ_ONCE(flow->original.word) | READ_ONCE(flow->reply.word)) & SEEN_RST) {
		__sync_fetch_and_and(&flow->original.word, ~SEEN_RST);
		__sync_fetch_and_and(&flow->reply.word, ~SEEN_RST);
	}
}

/* Whether nothing goes on on the flow, whatever the client sends: both sides have ended their connection, or the target or a
 * command has. */
static __always_inline bool flow_is_closed(const struct flow *flow)
{
	__u32 original = READ_ONCE(flow->original.word), reply = READ_ONCE(flow->reply.word);

	return original & reply & SEEN_FIN || reply & SEEN_RST || flow_is_cut(flow);
}

static __always_inline void flow_track(const struct flow_reference *reference, struct flow_half *half,
				       const struct packet *packet, enum direction direction)
{
	__u32 seen = READ_ONCE(half->word), now = packet_seen(packet);

	if ((seen & now) != now) {
		__sync_fetch_and_or(&half->word, now);
		if (now & SEEN_RST)
			flow_doubt(reference->flow);
		if (now & (SEEN_FIN | SEEN_RST) && flow_is_closed(reference->flow) && flow_reference_holds(reference))
			flow_leave_places(entry_slot(reference->entry));
	}
	if (!(seen & SEEN_OPEN) && flow_may_open(reference->flow, packet, direction))
		flow_try_open(reference, half);
}

/* The counters of a half are plain adds: exact as long as one CPU carries a direction, as receive queues have it. Those of
 * the mapping are per CPU and always exact. */
static __always_inline void flow_account(struct flow_half *half, const struct packet *packet, __u64 now)
{
	struct mapping_counters *counters = mapping_counters_of(half->mapping_id);

	if (units_since(half->last_seen, now) >= LAST_SEEN_GRANULARITY)
		half->last_seen = now >> 20;
	half->packets++;
	half->bytes += packet->ip_length;
	if (counters) {
		counters->packets++;
		counters->bytes += packet->ip_length;
	}
}

#endif
