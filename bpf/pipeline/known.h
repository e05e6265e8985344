/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Packets of a known flow: whether it still is theirs, and what is done before they are forwarded. */
#ifndef FASTNAT_PIPELINE_KNOWN_H
#define FASTNAT_PIPELINE_KNOWN_H

#include "admit.h"
#include "forward.h"

/* Whether a flow of this host's addresses has lost its own: nothing would come back. The kernel's masquerade forgets such
 * flows, too. A container that has come to a published address is seen under that, whoever's it is: what answers is behind this
 * host. */
static __always_inline bool flow_is_homeless(struct packet *packet, const struct flow_reference *reference)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || !(flow_flags(reference->flow) & FLOW_HOST_PORT) ||
	    entry_direction(reference->entry) != DIRECTION_ORIGINAL)
		return false;
	flow_tuple(reference->flow, entry_slot(reference->entry), DIRECTION_REPLY, &scratch->candidate);
	return !address_equal(&scratch->candidate.destination, &packet->tuple->destination) &&
	       route_locality(packet->context, &scratch->candidate) == LOCALITY_ELSEWHERE;
}

/* Whether the address of a flow that has just begun was looked after then (masquerade_begin). */
static __always_inline bool flow_was_seen_home(const struct flow *flow)
{
	return !(flow_flags(flow) & (FLOW_TRANSLATES | FLOW_OF_HOST));
}

/* Whether the flow is over for this packet: its connection is, and the packet begins the next; or its address is. Where only a
 * RST says that the connection has ended, and the next one would have the same target, the flow goes on: the target knows which
 * of the two the packet belongs to. */
static __always_inline bool flow_is_over(struct packet *packet, const struct flow_reference *reference)
{
	enum direction direction = entry_direction(reference->entry);

	if (packet->stage == STAGE_TRANSLATE) /* STAGE_ROUTE has found that it is not */
		return false;
	if (flow_is_reused(reference->flow, packet, direction))
		return packet->stage != STAGE_ROUTE || !flow_is_in_doubt(reference->flow) ||
		       !mapping_still_leads(packet->tuple, reference->flow->original.mapping_id);
	return packet_may_ask(packet) && !(packet->begun && flow_was_seen_home(reference->flow)) &&
	       flow_is_homeless(packet, reference);
}

/* A request and a reply can have the same tuple where the identifier is ECHO_PORT. */
static __always_inline bool echo_is_astray(const struct packet *packet, const struct flow_reference *reference)
{
	return packet_is_echo(packet) &&
	       (packet->echo == ECHO_REQUEST) != (entry_direction(reference->entry) == DIRECTION_ORIGINAL);
}

/* For the attached programs: the packet begins the next connection on the tuple of a flow that is over. The stage that begins
 * its flow ends this one; STAGE_ROUTE does where there is something to ask. */
static __always_inline enum verdict forward_reused(struct packet *packet, const struct flow_reference *reference)
{
	struct scratch *scratch = map_only_element(&scratches);
	enum stage stage = stage_of_beginning(packet);

	if (!scratch || stage == STAGE_ADMIT || flow_is_in_doubt(reference->flow))
		return packet->hook == HOOK_XDP ? VERDICT_PASS : packet_continue(packet, STAGE_ROUTE);
	first_packet_note(packet, scratch, reference->entry, false);
	return packet_continue(packet, stage);
}

static __always_inline enum verdict forward_known(struct packet *packet, const struct flow_reference *reference)
{
	enum verdict verdict;

	if (packet->side == SIDE_HOST && !(flow_flags(reference->flow) & FLOW_OF_HOST))
		return VERDICT_PASS;
	if (echo_is_astray(packet, reference))
		return VERDICT_PASS;
	if (flow_is_over(packet, reference)) {
		if (packet_may_ask(packet))
			flow_reference_end(reference);
		if (packet->begun) /* with an address that was none of this host's from the beginning: the next would be no
				      better */
			return packet_refuse(packet, REASON_NO_ADDRESS);
		if (packet->stage == STAGE_ATTACHED)
			return forward_reused(packet, reference);
		if (!packet_may_ask(packet))
			return packet_continue(packet, STAGE_ROUTE);
		return forward_unknown(packet);
	}
	if (packet->stage == STAGE_ATTACHED && packet_options_length(packet)) /* STAGE_ROUTE looks at them */
		return packet->hook == HOOK_XDP ? VERDICT_PASS : packet_continue(packet, STAGE_ROUTE);
	if (packet->stage == STAGE_FRAGMENT && flow_flags(reference->flow) & FLOW_TRANSLATES) {
		if (packet->begun)
			flow_reference_end(reference);
		return packet_refuse(packet, REASON_UNTRANSLATABLE);
	}
	if (packet->stage == STAGE_FRAGMENT && !(flow_flags(reference->flow) & FLOW_OF_HOST)) {
		verdict = fragment_enter(packet);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	if (packet->side != SIDE_HOST && packet_may_ask(packet) && packet_is_source_routed(packet))
		verdict = packet_refuse(packet, REASON_SOURCE_ROUTED);
	else
		verdict = forward(packet, reference);
	/* A flow whose first packet gets nowhere is not kept. */
	if (packet->begun && (verdict == VERDICT_DROP || (verdict == VERDICT_CONTINUE && packet->stage == STAGE_REPORT)))
		flow_reference_end(reference);
	return verdict;
}

#endif
