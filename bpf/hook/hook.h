/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* One interface to both hooks. packet->hook is constant at each entry point, so only one branch is left of each function. */
#ifndef FASTNAT_HOOK_HOOK_H
#define FASTNAT_HOOK_HOOK_H

#include "tc.h"
#include "xdp.h"

/* XDP finds out with the flow, a port of a bridge has found out before (nat/bridge.h). */
static __always_inline bool packet_is_for_host(struct packet *packet)
{
	return packet->hook == HOOK_XDP || packet->side == SIDE_PORT || tc_packet_is_for_host(packet);
}

/* Where the packet has come in. */
static __always_inline __u32 packet_ifindex(const struct packet *packet)
{
	if (packet->hook == HOOK_TC)
		return ((struct __sk_buff *)packet->context)->ifindex;
	return ((struct xdp_md *)packet->context)->ingress_ifindex;
}

/* Bytes of the whole frame. `wanted` is what the caller needs to be there: XDP asks the kernel for the length of a frame in
 * several buffers only when the first one is shorter. */
static __always_inline __u32 packet_frame_length(struct packet *packet, __u32 wanted)
{
	if (packet->hook == HOOK_TC)
		return ((struct __sk_buff *)packet->context)->len;
	if (packet->data_end - packet->data >= wanted)
		return packet->data_end - packet->data;
	return bpf_xdp_get_buff_len(packet->context);
}

/* Whether the frame has so many bytes in it; at XDP, in its first buffer. */
static __always_inline bool packet_has(const struct packet *packet, __u32 bytes)
{
	if (packet->hook == HOOK_TC)
		return bytes <= ((struct __sk_buff *)packet->context)->len;
	return bytes <= packet->data_end - packet->data;
}

static __always_inline bool packet_is_gso(struct packet *packet)
{
	return packet->hook == HOOK_TC && ((struct __sk_buff *)packet->context)->gso_size;
}

/* Bytes of the longest IP packet that reaches the wire. */
static __always_inline __u32 packet_wire_length(struct packet *packet)
{
	return packet->hook == HOOK_TC ? tc_packet_wire_length(packet) : packet->ip_length;
}

static __always_inline enum checksum_state packet_checksum_state(struct packet *packet)
{
	return packet->hook == HOOK_TC ? tc_checksum_state(packet) : CHECKSUM_NONE;
}

/* Leaves the packet, untouched so far, to the program of another stage. */
static __always_inline enum verdict packet_continue(struct packet *packet, enum stage stage)
{
	packet->stage = stage;
	return VERDICT_CONTINUE;
}

#define REASON_DROP_BIT(identifier, name, dropped, text) (dropped##ULL) << REASON_##identifier |

/* What the list of reasons (abi/reasons.h) says of a packet that is not forwarded. */
static __always_inline enum verdict packet_refuse(struct packet *packet, enum reason reason)
{
	packet->reason = reason;
	return (FASTNAT_REASONS(REASON_DROP_BIT) 0) >> reason & 1 ? VERDICT_DROP : VERDICT_PASS;
}

/* Drops the packet, which has come over a network, and lets its sender know why (nat/report.h); not about a later fragment. TC
 * alone. */
static __always_inline enum verdict packet_report(struct packet *packet, enum reason reason, __u32 mtu)
{
	struct __sk_buff *skb = packet->context;

	if (packet->is_later_fragment)
		return packet_refuse(packet, reason);
	skb->cb[TC_NOTE_REASON] = reason;
	skb->cb[TC_NOTE_MTU] = mtu;
	return packet_continue(packet, STAGE_REPORT);
}

#endif
