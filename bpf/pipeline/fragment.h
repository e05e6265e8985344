/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What fragments do besides: the first tells its ports, later ones ask for them, whatever becomes of their datagram. */
#ifndef FASTNAT_PIPELINE_FRAGMENT_H
#define FASTNAT_PIPELINE_FRAGMENT_H

#include "../nat/fragment.h"
#include "../net/fragment.h"

/* A first fragment tells those that follow where they go: with the flow of its ports, or up the stack. true: others were
 * waiting for it, and all come in again. */
static __always_inline bool fragment_announce(struct packet *packet, bool is_foreign)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || !packet->is_first_fragment || packet->side == SIDE_HOST)
		return false;
	fragment_note(scratch, packet->tuple, is_foreign);
	if (is_foreign && packet->side == SIDE_UPLINK) /* those that waited have gone up the stack already */
		return fragment_queue_drop(scratch), false;
	if (fragment_release(packet->context))
		return true;
	tc_packet_fetch(packet); /* the verifier does not know that nothing has changed */
	return false;
}

/* What is to be done with a fragment of a known flow before it is forwarded. VERDICT_CONTINUE: that is done. */
static __always_inline enum verdict fragment_enter(struct packet *packet)
{
	if (packet->is_tiny_fragment)
		return packet_refuse(packet, REASON_TINY_FRAGMENT);
	return fragment_announce(packet, false) ? VERDICT_TAKEN : VERDICT_CONTINUE;
}

/* A packet that is not ours goes up the stack, and so do the fragments behind it. */
static __always_inline enum verdict fragment_leave(struct packet *packet)
{
	if (!fragment_announce(packet, true))
		return VERDICT_PASS;
	packet->reason = REASON_NONE; /* counted when it comes in again */
	return VERDICT_TAKEN;
}

/* A later fragment gets its datagram's ports. VERDICT_CONTINUE: it has them. */
static __always_inline enum verdict fragment_complete(struct packet *packet)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch || packet->side == SIDE_HOST) /* for a socket of this host, ports alone would change */
		return VERDICT_PASS;
	switch (fragment_recall(packet->context)) {
	case RECALL_OURS:
		packet->tuple->source_port = scratch->fragment_note.source_port;
		packet->tuple->destination_port = scratch->fragment_note.destination_port;
		return VERDICT_CONTINUE;
	case RECALL_FOREIGN:
		return VERDICT_PASS;
	case RECALL_WAITING:
		/* What may be the stack's goes there at once; from a container it would leave the host untranslated. */
		return packet_refuse(packet, packet->side == SIDE_UPLINK ? REASON_FRAGMENT : REASON_FRAGMENT_HELD);
	case RECALL_TAKEN:
		return VERDICT_TAKEN;
	default:
		return packet_refuse(packet, REASON_FRAGMENT_NO_ROOM);
	}
}

#endif
