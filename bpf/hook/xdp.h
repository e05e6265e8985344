/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* All that is peculiar to XDP: raw frames, before there is a socket buffer. */
#ifndef FASTNAT_HOOK_XDP_H
#define FASTNAT_HOOK_XDP_H

#include "packet.h"

static __always_inline void xdp_packet_init(struct packet *packet, struct xdp_md *frame)
{
	packet->context = frame;
	packet->hook = HOOK_XDP;
	packet->data = (void *)(long)frame->data;
	packet->data_end = (void *)(long)frame->data_end;
}

static __always_inline int xdp_action(struct packet *packet, enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_REDIRECTED:
		return packet->action;
	case VERDICT_DROP:
		return XDP_DROP;
	default:
		return XDP_PASS;
	}
}

#endif
