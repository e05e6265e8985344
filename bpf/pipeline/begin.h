/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* New flows about which nothing is to be asked: begun and their first packets forwarded at once, at either hook. All others are
 * STAGE_ADMIT's to begin, and to refuse (docs/decisions/0024-first-packets.md). */
#ifndef FASTNAT_PIPELINE_BEGIN_H
#define FASTNAT_PIPELINE_BEGIN_H

#include "admit.h"
#include "forward.h"

/* Leaves the packet, untouched so far, to those that ask. */
static __always_inline enum verdict begin_leave(struct packet *packet)
{
	return packet->hook == HOOK_XDP ? VERDICT_PASS : packet_continue(packet, STAGE_ADMIT);
}

/* The packet as the attached program has parsed it. */
static __always_inline void first_packet_recall(struct packet *packet, struct scratch *scratch)
{
	packet->tuple = &scratch->request.original;
	packet->transport_offset = scratch->first.transport_offset;
	packet->ip_length = scratch->first.ip_length;
	packet->headers_length = scratch->first.headers_length;
	packet->is_ipv4 = scratch->first.is_ipv4;
	packet->without_checksum = scratch->first.without_checksum;
}

/* Whether the packet is one that a known flow's program would forward. */
static __always_inline bool first_packet_is_ordinary(struct packet *packet)
{
	return !packet_options_length(packet) && !packet_ttl_is_used_up(packet) &&
	       !(packet->hook == HOOK_XDP && packet_checksum_is_partial(packet));
}

static __always_inline enum verdict first_packet_forward(struct packet *packet, const struct scratch *scratch,
							 struct rewrite *rewrite)
{
	rewrite->source = scratch->request.reply.destination;
	rewrite->destination = scratch->request.reply.source;
	rewrite->source_port = scratch->request.reply.destination_port;
	rewrite->destination_port = scratch->request.reply.source_port;
	rewrite->address_delta = scratch->first.address_delta;
	rewrite->port_delta = scratch->first.port_delta;
	if (!packet_rewrite(packet, rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	return packet->hook == HOOK_XDP ? redirect_frame(packet, &rewrite->next_hop)
					: redirect_to_output(packet, &rewrite->next_hop);
}

/* Makes the flow of the request. */
static __always_inline enum reason begin_create(const struct mapping *mapping)
{
	enum reason reason = mapping->flags & MAPPING_LIMITED ? limits_take() : REASON_NONE;

	return reason == REASON_NONE ? flow_create_plain() : reason;
}

/* STAGE_BEGIN */
static __always_inline enum verdict begin_at_once(struct packet *packet)
{
	struct settings *current = map_only_element(&settings);
	struct scratch *scratch = map_only_element(&scratches);
	__u64 now = time_now();
	struct mapping_match match;
	struct rewrite rewrite;
	enum verdict verdict;
	enum reason reason;
	__u32 version;

	packet->reason = REASON_NONE;
	if (!scratch || !current)
		return begin_leave(packet);
	first_packet_recall(packet, scratch);
	scratch->first.now = now;
	version = READ_ONCE(current->mappings_version);
	if (!first_packet_is_ordinary(packet) || !mapping_find(packet->tuple, &match) ||
	    mapping_translates(match.mapping, packet->tuple) || !arrival_leads(packet, match.mapping, &rewrite.next_hop, now))
		return begin_leave(packet);
	request_set_mapping(&scratch->request, &match, SIDE_UPLINK);
	if (!arrival_is_admitted(packet, &match, &scratch->request, now))
		return begin_leave(packet);
	reason = begin_create(match.mapping);
	if (reason == REASON_NO_FREE_PORT || reason == REASON_FLOW_RACE) /* STAGE_ADMIT looks for another port, or the flow */
		return begin_leave(packet);
	if (reason != REASON_NONE)
		return packet_refuse(packet, reason);
	if (READ_ONCE(current->mappings_version) != version)
		verdict = packet_refuse(packet, REASON_MAPPING_RACE);
	else
		verdict = first_packet_forward(packet, scratch, &rewrite);
	if (verdict == VERDICT_DROP) /* a flow whose first packet gets nowhere is not kept */
		flow_withdraw(packet->tuple);
	return verdict;
}

#endif
