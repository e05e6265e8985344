/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Header layouts and the numbers in them. */
#ifndef FASTNAT_NET_HEADERS_H
#define FASTNAT_NET_HEADERS_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "../hook/hook.h"

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

/* Byte 13 of a TCP header (RFC 9293, 3.1). */
enum tcp_flag {
	TCP_FIN = 1 << 0,
	TCP_SYN = 1 << 1,
	TCP_RST = 1 << 2,
	TCP_ACK = 1 << 4,
};
#define TCP_FLAGS_OFFSET 13

/* Ports below are for well-known services (RFC 6335, section 6). Host byte order. */
#define PORT_FIRST_PRIVILEGED 512
#define PORT_FIRST_UNPRIVILEGED 1024
#define PORT_LAST 65535

#define TCP_CHECKSUM_OFFSET offsetof(struct tcphdr, check)
#define UDP_CHECKSUM_OFFSET offsetof(struct udphdr, check)

/* Both are at even addresses. */
static __always_inline bool mac_equal(const __u8 *left, const __u8 *right)
{
	const __u16 *a = (const void *)left, *b = (const void *)right;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]));
}

#endif
