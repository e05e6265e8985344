/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Addresses and tuples as both the kernel programs and the loader hold them. */
#ifndef FASTNAT_ABI_ADDRESS_H
#define FASTNAT_ABI_ADDRESS_H

#include <linux/types.h>

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), in network byte order. The mapped form never
 * stands on the wire, so the family of an address is in the address. */
struct address {
	__be32 words[4];
};

/* What names one direction of a flow: the source and destination of its packets as they arrive. Whoever sends ICMP echo
 * requests has their identifier for a port, whoever answers ECHO_PORT. */
struct tuple {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_ICMP or IPPROTO_ICMPV6 */
	__u8 zero[3];
} __attribute__((aligned(8)));

enum echo_port {
	ECHO_PORT = 8, /* host byte order */
};

_Static_assert(sizeof(struct address) == 16, "struct address is part of every key");
_Static_assert(sizeof(struct tuple) == 40, "struct tuple is compared as five 64-bit words");

#endif
