/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* IPv4 options. Only packets that have some pay for what is looked at here. */
#ifndef FASTNAT_NAT_OPTIONS_H
#define FASTNAT_NAT_OPTIONS_H

#include "maps.h"

/* An option that stands in every fragment (RFC 791, 3.1), the two that are of one byte, and the two that prescribe the way. */
#define IPV4_OPTION_COPIED 0x80
#define IPV4_OPTION_END 0
#define IPV4_OPTION_NOOP 1
#define IPV4_OPTION_LOOSE_ROUTE 131
#define IPV4_OPTION_STRICT_ROUTE 137

#define IPV4_OPTIONS_BYTES 40

/* Bytes of options in the packet's IPv4 header. By arithmetic, of which the verifier learns nothing: it would follow packets
 * with options and others to the program's end, each for itself. */
static __always_inline __u32 packet_options_length(const struct packet *packet)
{
	__u32 length = (packet->transport_offset - (ETH_HLEN + sizeof(struct iphdr))) * packet->is_ipv4;

	asm volatile("" : "+r"(length));
	return length;
}

/* Whether there is a source route among `length` bytes of options. What stands behind an option of an impossible length is
 * none. */
__noinline int options_have_route(struct __sk_buff *skb, __u32 length)
{
	struct scratch *scratch = map_only_element(&scratches);
	__u32 next = 0;

	if (!scratch || !length_is_within(&length, 1, IPV4_OPTIONS_BYTES) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct iphdr), scratch->chunk, length))
		return false;
#pragma clang loop unroll(disable)
	for (int i = 0; i < IPV4_OPTIONS_BYTES && next < length; i++) {
		__u8 *option = scratch->chunk + (next & (MESSAGE_CHUNK / 2 - 1));

		if (*option == IPV4_OPTION_LOOSE_ROUTE || *option == IPV4_OPTION_STRICT_ROUTE)
			return true;
		if (*option == IPV4_OPTION_END)
			return false;
		next = verifier_forget(next + (*option == IPV4_OPTION_NOOP ? 1 : option[1]), length);
	}
	return false;
}

/* The kernel forwards no such packet (net.ipv4.conf.all.accept_source_route is 0 unless somebody has set it; RFC 7126, 4.3.3
 * and 4.4.3). */
static __always_inline bool packet_is_source_routed(const struct packet *packet)
{
	__u32 length = packet_options_length(packet);

	return length && options_have_route(packet->context, length);
}

#endif
