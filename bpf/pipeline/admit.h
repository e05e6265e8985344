/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Packets of no known flow: which of them may begin one, and the stage in which they do. */
#ifndef FASTNAT_PIPELINE_ADMIT_H
#define FASTNAT_PIPELINE_ADMIT_H

#include "fragment.h"
#include "../nat/arrival.h"
#include "../nat/host_socket.h"

/* The MAC address that the packet has arrived with. */
static __always_inline bool request_set_arrival(struct flow_request *request, const struct packet *packet)
{
	struct ethhdr *ethernet = packet->data;

	if (packet_ends_before(packet, ethernet + 1))
		return false;
	mac_copy(request->arrival_mac, ethernet->h_dest);
	return true;
}

/* For a packet of no known flow: begins one, where a mapping or masquerade says so. REASON_NONE, or what keeps the packet from
 * being forwarded. */
static __always_inline enum reason begin(struct packet *packet)
{
	struct scratch *scratch = map_only_element(&scratches);
	enum reason reason;

	if (!scratch || !request_set_arrival(&scratch->request, packet))
		return REASON_MALFORMED;
	scratch->request.original = *packet->tuple;
	if (packet->side == SIDE_HOST)
		return host_begin(packet->context);
	reason = mapping_begin(packet->context, packet->side);
	if (packet->side == SIDE_UPLINK && reason != REASON_UNPUBLISHED) /* limits, too, hold at XDP then */
		arrival_note(((struct __sk_buff *)packet->context)->ifindex, scratch->request.arrival_mac);
	if (packet->side == SIDE_UPLINK)
		return reason == REASON_UNPUBLISHED ? open_port_begin(packet->context) : reason;
	return reason == REASON_UNPUBLISHED || reason == REASON_NOT_LOCAL ? masquerade_begin(packet->context) : reason;
}

/* A packet from the middle of a connection or association is not ours: whoever carried it goes on. Nor is an echo that is for
 * this host. */
static __always_inline bool packet_may_begin(const struct packet *packet)
{
	if (packet->is_later_fragment)
		return false;
	if (packet_is_echo(packet))
		return packet->echo == ECHO_REQUEST && packet->side != SIDE_UPLINK;
	return !protocol_has_handshake(packet->tuple->protocol) || tcp_flags_begin(packet->tcp_flags);
}

/* Keeps what has been found out of the packet for STAGE_BEGIN and STAGE_OUTBOUND, and the entry of the flow that it has come
 * after, or 0. In few stores: where the packet is expected, none is done with before the one that fetches its line of the index
 * (flow_index_expect), and a CPU has room for some dozens. */
static __always_inline void first_packet_note(const struct packet *packet, struct scratch *scratch, __u64 former,
					      bool is_expected)
{
	struct first_packet_shape shape = {
		.ip_length = packet->ip_length,
		.transport_offset = packet->transport_offset,
		.headers_length = packet->headers_length,
	};
	struct first_packet_kind kind = {
		.seen = packet_seen(packet),
		.is_ipv4 = packet->is_ipv4,
		.without_checksum = packet->without_checksum,
		.streak = packet->streak,
		.is_expected = is_expected,
	};

	tuple_copy(&scratch->request.original, packet->tuple);
	scratch->first.hash = packet->hash;
	scratch->first.former = former;
	scratch->first.now = packet->now;
	word_store(&scratch->first.shape, &shape);
	word_store(&scratch->first.kind, &kind);
}

static __always_inline bool masquerades_are_there(void)
{
	const struct settings *current = map_only_element(&settings);

	return current && current->has_masquerades;
}

/* The stage that may begin a flow at once for the packet, or STAGE_ADMIT. */
static __always_inline enum stage stage_of_beginning(const struct packet *packet)
{
	if (packet->stage == STAGE_ATTACHED && packet->side == SIDE_UPLINK)
		return STAGE_BEGIN;
	if (packet->stage == STAGE_ATTACHED && packet->side == SIDE_CONTAINER && masquerades_are_there())
		return STAGE_OUTBOUND;
	return STAGE_ADMIT;
}

static __always_inline enum verdict forward_unknown(struct packet *packet)
{
	struct scratch *scratch;
	enum stage stage;

	if (!packet_may_begin(packet))
		return VERDICT_PASS;
	if (packet->side == SIDE_HOST && !host_packet_clashes(packet->tuple))
		return VERDICT_PASS;
	stage = stage_of_beginning(packet);
	if (stage == STAGE_ADMIT)
		return packet_continue(packet, stage);
	scratch = map_only_element(&scratches);
	if (!scratch)
		return VERDICT_PASS;
	first_packet_note(packet, scratch, 0, false);
	return packet_continue(packet, stage);
}

/* What a container is told of: no more connections just now. To clients from anywhere it would be an answer to any flood. */
static __always_inline bool refusal_is_reported(const struct packet *packet, enum reason reason)
{
	return packet->side == SIDE_CONTAINER &&
	       (reason == REASON_NO_FREE_PORT || reason == REASON_TABLE_FULL || reason == REASON_HALF_OPEN_FULL);
}

/* The stage that has the packet of a flow that has just been made. */
static __always_inline enum stage stage_after_admission(const struct packet *packet)
{
	if (packet->is_first_fragment)
		return STAGE_FRAGMENT;
	return protocol_is_icmp(packet->tuple->protocol) ? STAGE_ECHO : STAGE_ROUTE;
}

/* A flow that has gone again when its packet comes to it is begun anew so often. Without a bound, the packet would go round
 * until the kernel calls no more programs (33), and then up the stack untranslated. */
#define RACES_AT_MOST 2

/* STAGE_ADMIT: the flow, once made, is as any other; another stage goes on. In a race, another CPU was faster: its flow is as
 * good. */
static __always_inline enum verdict admit(struct packet *packet)
{
	enum reason reason = begin(packet);
	enum verdict verdict;

	if (reason == REASON_FLOW_RACE && packet->races++ == RACES_AT_MOST)
		return packet_refuse(packet, reason);
	if (refusal_is_reported(packet, reason)) /* RFC 5508, REQ-8 */
		return packet_report(packet, reason, 0);
	if (reason != REASON_NONE && reason != REASON_FLOW_RACE) {
		verdict = packet_refuse(packet, reason);
		return verdict == VERDICT_PASS ? fragment_leave(packet) : verdict;
	}
	packet->begun = reason == REASON_NONE;
	return packet_continue(packet, stage_after_admission(packet));
}

#endif
