/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The Internet checksum (RFC 1071) and its incremental update (RFC 1624). Sums are of 16-bit words in the order in which they
 * stand in memory; one's complement arithmetic does not mind. */
#ifndef FASTNAT_NET_CHECKSUM_H
#define FASTNAT_NET_CHECKSUM_H

#include "address.h"

static __always_inline __u16 checksum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* One's complement sum of two: one carry is all there can be. */
static __always_inline __u16 checksum_add(__u16 left, __u16 right)
{
	__u32 sum = (__u32)left + right;

	return sum + (sum >> 16);
}

static __always_inline __u64 checksum_sum_address(const struct address *address)
{
	return (__u64)address->words[0] + address->words[1] + address->words[2] + address->words[3];
}

/* The sum to add for fields whose sum was `from` and becomes `to`: 0 where nothing changes, of the two zeros that one's
 * complement has. */
static __always_inline __u16 checksum_delta(__u64 from, __u64 to)
{
	__u16 delta = checksum_fold(to + (__u16)~checksum_fold(from));

	return delta == 0xffff ? 0 : delta;
}

/* RFC 1624, eqn. 3: HC' = ~(~HC + ~m + m'), where `delta` is the folded ~m + m'. */
static __always_inline __u16 checksum_apply(__u16 checksum, __u16 delta)
{
	return ~checksum_add(~checksum, delta);
}

/* Whether the transport checksum field holds the sum of the pseudo header alone: a local sender left the rest to a device
 * that never saw the packet (CHECKSUM_PARTIAL). XDP cannot complete it. One in 65,536 finished packets looks the same. */
static __always_inline bool checksum_is_partial(const struct packet *packet, __u16 checksum)
{
	__u32 length = packet->ip_length - (packet->transport_offset - ETH_HLEN);
	__u64 sum = checksum_sum_address(&packet->tuple->source) + checksum_sum_address(&packet->tuple->destination) +
		    bpf_htons(packet->tuple->protocol) + bpf_htonl(length);

	return checksum == checksum_fold(sum);
}

#endif
