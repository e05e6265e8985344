/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The Internet checksum (RFC 1071) and its incremental update (RFC 1624). Sums are of 16-bit words in the order in which they
 * stand in memory; one's complement arithmetic does not mind. */
#ifndef FASTNAT_NET_CHECKSUM_H
#define FASTNAT_NET_CHECKSUM_H

#include "address.h"

/* Not all the way: below 2^18. */
static __always_inline __u32 checksum_fold_once(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffff) + (sum >> 16);
}

/* The rest of it, of a sum below 2^20. */
static __always_inline __u16 checksum_fold_rest(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

static __always_inline __u16 checksum_fold(__u64 sum)
{
	return checksum_fold_rest(checksum_fold_once(sum));
}

static __always_inline __u64 checksum_sum_address(const struct address *address)
{
	return (__u64)address->words[0] + address->words[1] + address->words[2] + address->words[3];
}

/* Of two addresses. What IPv4 ones have in common comes to nothing: twice 0xffff. */
static __always_inline __u64 checksum_sum_addresses(const struct address *source, const struct address *destination,
						    bool are_ipv4)
{
	if (are_ipv4)
		return (__u64)source->words[3] + destination->words[3];
	return checksum_sum_address(source) + checksum_sum_address(destination);
}

/* A multiple of 65,535 above all sums of addresses: zero, in one's complement. */
#define CHECKSUM_ZERO (0xffffULL << 32)

/* The sum to add for fields whose sum was `from` and becomes `to`, below 2^18. */
static __always_inline __u32 checksum_delta(__u64 from, __u64 to)
{
	return checksum_fold_once(to + CHECKSUM_ZERO - from);
}

/* The same of sums of two ports. */
static __always_inline __u32 ports_delta(__u32 from, __u32 to)
{
	return to + 2 * 0xffff - from;
}

/* RFC 1624, eqn. 3: HC' = ~(~HC + ~m + m'), where `delta` is the sum of all ~m + m', below 2^19. */
static __always_inline __u16 checksum_apply(__u16 checksum, __u32 delta)
{
	return ~checksum_fold_rest((__u16)~checksum + delta);
}

/* The delta of a TTL that is one less. */
#define CHECKSUM_DELTA_TTL ((__u16)~bpf_htons(0x0100))

/* Whether a sum is a multiple of 65,535, which is zero in one's complement: as many as there are of them, and no other number,
 * come to no more than their count by this product, the inverse of 65,535 modulo 2^64 (Granlund and Montgomery, 1994). */
static __always_inline bool is_checksum_zero(__u64 sum)
{
	return sum * 0xfffefffefffeffffULL <= ~0ULL / 0xffff;
}

/* Whether the transport checksum field holds the sum of the pseudo header alone: a local sender left the rest to a device
 * that never saw the packet (CHECKSUM_PARTIAL). XDP cannot complete it. One in 65,536 finished packets looks the same. */
static __always_inline bool checksum_is_partial(const struct packet *packet, __u16 checksum)
{
	__u32 length = packet->ip_length - (packet->transport_offset - ETH_HLEN);
	__u64 sum = checksum_sum_addresses(&packet->tuple->source, &packet->tuple->destination, packet->is_ipv4) +
		    bpf_htons(packet->tuple->protocol) + bpf_htonl(length);

	return is_checksum_zero(sum - checksum); /* not below zero: the length or the addresses are more, by their place */
}

#endif
