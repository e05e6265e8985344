/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The way of a packet: parse → find its flow, or make one → rewrite → forward. docs/packet-walk.md tells the same story. The
 * stations are in pipeline/. */
#ifndef FASTNAT_PIPELINE_H
#define FASTNAT_PIPELINE_H

#include "nat/report.h"
#include "nat/sweep.h"
#include "net/reset.h"
#include "pipeline/begin.h"
#include "pipeline/known.h"
#include "pipeline/lane.h"

static __always_inline enum verdict forward_any(struct packet *packet)
{
	struct flow_reference reference;
	bool found;

	if (packet->stage == STAGE_ATTACHED) {
		packet->hash = tuple_hash(packet->tuple, layout.hash_keys);
		if (packet->side < SIDES_THAT_BEGIN && first_packet_is_expected(packet))
			return packet_continue(packet, stage_of_beginning(packet));
		found = flow_find_fast(packet->tuple, packet->hash, &reference);
	} else {
		found = flow_find(packet->tuple, &reference);
	}
	if (found)
		return forward_known(packet, &reference);
	if (packet->begun)
		return packet_refuse(packet, REASON_FLOW_RACE);
	return forward_unknown(packet);
}

/* STAGE_FRAGMENT */
static __always_inline enum verdict forward_fragment(struct packet *packet)
{
	enum verdict verdict;

	if (packet->is_later_fragment) {
		verdict = fragment_complete(packet);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	verdict = forward_any(packet);
	if (verdict != VERDICT_PASS)
		return verdict;
	if (packet->is_later_fragment) /* its first fragment had a flow */
		return packet_refuse(packet, REASON_FLOW_RACE);
	return fragment_leave(packet);
}

/* Other programs leave fragments to STAGE_FRAGMENT, XDP to TC. */
static __always_inline enum parse_result pipeline_parse(struct packet *packet)
{
	enum parse_result result = packet_parse(packet);
	struct scratch *scratch;

	if (result != PARSE_FRAGMENT ||
	    (packet->stage != STAGE_FRAGMENT && packet->stage != STAGE_ADMIT && packet->stage != STAGE_REPORT))
		return result;
	scratch = map_only_element(&scratches);
	return scratch ? fragment_parse(packet, &scratch->fragment_key) : PARSE_FOREIGN;
}

static __always_inline void address_forget(struct address *address, __u32 unknown)
{
#pragma clang loop unroll(full)
	for (int i = 0; i < 4; i++)
		address->words[i] = verifier_forget(address->words[i], unknown);
}

/* Has the verifier forget what the parser has found: what follows is then proved once for any packet, and not for each kind
 * that the parser tells apart. */
static __always_inline void packet_forget_kind(struct packet *packet)
{
	__u32 unknown = ((struct __sk_buff *)packet->context)->len;

	address_forget(&packet->tuple->source, unknown);
	address_forget(&packet->tuple->destination, unknown);
	packet->tuple->protocol = verifier_forget(packet->tuple->protocol, unknown);
	packet->transport_offset = verifier_forget(packet->transport_offset, unknown);
	packet->headers_length = verifier_forget(packet->headers_length, unknown);
	packet->ip_length = verifier_forget(packet->ip_length, unknown);
	packet->tcp_flags = verifier_forget(packet->tcp_flags, unknown);
	packet->echo = verifier_forget(packet->echo, unknown);
	packet->is_ipv4 = verifier_forget(packet->is_ipv4, unknown);
	packet->without_checksum = verifier_forget(packet->without_checksum, unknown);
	packet->is_first_fragment = verifier_forget(packet->is_first_fragment, unknown);
	packet->is_later_fragment = verifier_forget(packet->is_later_fragment, unknown);
	packet->is_tiny_fragment = verifier_forget(packet->is_tiny_fragment, unknown);
	tc_packet_fetch(packet);
}

/* An ICMP error. The host's own go out as they are. */
static __always_inline enum verdict forward_error(struct packet *packet)
{
	if (packet->side == SIDE_HOST || !packet_is_for_host(packet))
		return VERDICT_PASS;
	if (packet->stage == STAGE_TRANSLATE)
		return error_cross(packet);
	return packet->stage == STAGE_ICMP ? error_forward(packet) : packet_continue(packet, STAGE_ICMP);
}

static __always_inline bool stage_takes_echo(enum stage stage)
{
	return stage == STAGE_ECHO || stage == STAGE_ADMIT || stage == STAGE_FRAGMENT || stage == STAGE_REPORT;
}

/* Fragments follow a first one, wherever that goes. */
static __always_inline enum verdict forward_foreign(struct packet *packet)
{
	if (packet->stage != STAGE_FRAGMENT || !packet->is_first_fragment || !packet_is_for_host(packet))
		return VERDICT_PASS;
	return fragment_leave(packet);
}

static __always_inline enum verdict pipeline(struct packet *packet)
{
	enum verdict verdict;

	packet->reason = REASON_NONE;
	if (lane(packet, &verdict))
		return verdict;
	switch (pipeline_parse(packet)) {
	case PARSE_MALFORMED:
		return packet_refuse(packet, REASON_MALFORMED);
	case PARSE_FRAGMENT:
		return packet->hook == HOOK_XDP ? VERDICT_PASS : packet_continue(packet, STAGE_FRAGMENT);
	case PARSE_FOREIGN:
		return forward_foreign(packet);
	case PARSE_ERROR:
		return forward_error(packet);
	case PARSE_ECHO:
		if (packet->stage == STAGE_ATTACHED)
			return packet_continue(packet, STAGE_ECHO);
		if (!stage_takes_echo(packet->stage)) /* never */
			return VERDICT_PASS;
		break;
	case PARSE_OK:
		break;
	}
	if (packet->stage == STAGE_ICMP)
		return VERDICT_PASS;
	if (packet_may_ask(packet))
		packet_forget_kind(packet);
	if (packet->stage == STAGE_REPORT)
		return report(packet);
	if (packet->side != SIDE_HOST && !packet_is_for_host(packet))
		return VERDICT_PASS;
	if (packet->stage == STAGE_RESET)
		return packet_reset(packet) ? packet_continue(packet, STAGE_ROUTE) : VERDICT_DROP;
	if (packet->stage == STAGE_ADMIT)
		return admit(packet);
	return packet->stage == STAGE_FRAGMENT ? forward_fragment(packet) : forward_any(packet);
}

#endif
