/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Header layouts and the numbers in them. */
#ifndef FASTNAT_NET_HEADERS_H
#define FASTNAT_NET_HEADERS_H

#include <linux/if_ether.h>
#include <linux/icmpv6.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "../hook/hook.h"

#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

/* RFC 8200, 4.5 */
struct fragment_header {
	__u8 next_header;
	__u8 reserved;
	__be16 place; /* in units of 8 bytes << 3, and FRAGMENT_MORE */
	__be32 identification;
};
#define FRAGMENT_MORE 1
#define FRAGMENT_OFFSET 0xfff8

/* Byte 13 of a TCP header (RFC 9293, 3.1). */
enum tcp_flag {
	TCP_FIN = 1 << 0,
	TCP_SYN = 1 << 1,
	TCP_RST = 1 << 2,
	TCP_ACK = 1 << 4,
};
#define TCP_FLAGS_OFFSET 13

/* The first segment of a connection. With ACK or RST it is none (RFC 9293, 3.10.7.2); with FIN, neither Linux nor netfilter
 * takes it for one. */
static __always_inline bool tcp_flags_begin(__u8 flags)
{
	return (flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* Ports below are for well-known services (RFC 6335, section 6). Host byte order. */
#define PORT_FIRST_PRIVILEGED 512
#define PORT_FIRST_UNPRIVILEGED 1024
#define PORT_LAST 65535

/* Whose headers begin with ports. */
static __always_inline bool protocol_has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* Whose flows begin and end with packets that say so. */
static __always_inline bool protocol_has_handshake(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP;
}

/* The first 8 bytes of either ICMP. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest; /* of an error: zero or its parameter, such as an MTU */
};

/* Of an echo request or reply. */
struct icmp_echo {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
	__be16 sequence;
};
#define ICMP_CHECKSUM_OFFSET offsetof(struct icmp_header, checksum)

/* Echo and errors of ICMPv4 (RFC 792; linux/icmp.h includes the C library). Source quench and redirects are not for us to pass
 * on (RFC 5508, REQ-10). */
enum icmpv4_type {
	ICMPV4_ECHO_REPLY = 0,
	ICMPV4_DESTINATION_UNREACHABLE = 3,
	ICMPV4_ECHO_REQUEST = 8,
	ICMPV4_TIME_EXCEEDED = 11,
	ICMPV4_PARAMETER_PROBLEM = 12,
};

/* Codes of ICMPV4_DESTINATION_UNREACHABLE (RFC 792, RFC 1812, 5.2.7.1). */
enum icmpv4_unreachable {
	ICMPV4_HOST_UNREACHABLE = 1,
	ICMPV4_PROTOCOL_UNREACHABLE = 2,
	ICMPV4_PORT_UNREACHABLE = 3,
	ICMPV4_FRAGMENTATION_NEEDED = 4,
	ICMPV4_HOST_PROHIBITED = 10,
	ICMPV4_PROHIBITED = 13,
};

/* Of the four bytes that begin with the Ethernet type: that, and the first of an IPv4 header without options. */
#define PLAIN_IPV4_MASK bpf_htonl(0xffffff00)
#define PLAIN_IPV4 bpf_htonl(ETH_P_IP << 16 | 0x45 << 8)

/* Where the transport header begins behind that. */
#define PLAIN_TRANSPORT_OFFSET (ETH_HLEN + sizeof(struct iphdr))

#define TCP_CHECKSUM_OFFSET offsetof(struct tcphdr, check)
#define UDP_CHECKSUM_OFFSET offsetof(struct udphdr, check)

static __always_inline bool protocol_is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

static __always_inline enum echo icmp_echo_kind(bool is_ipv4, __u8 type)
{
	if (type == (is_ipv4 ? ICMPV4_ECHO_REQUEST : ICMPV6_ECHO_REQUEST))
		return ECHO_REQUEST;
	return type == (is_ipv4 ? ICMPV4_ECHO_REPLY : ICMPV6_ECHO_REPLY) ? ECHO_REPLY : ECHO_NONE;
}

/* Eight bytes in one store, out of however many parts the compiler has them. */
static __always_inline void word_store(void *to, const void *from)
{
	__u64 word;

	__builtin_memcpy(&word, from, sizeof(word));
	asm volatile("" : "+r"(word));
	*(__u64 *)to = word;
}

/* Both MAC addresses of a frame, in the order that they have there. Linux lets programs store at any address of a packet, where
 * the processor does. */
static __always_inline void macs_copy(void *to, const void *from)
{
	*(__u64 *)to = *(const __u64 *)from;
	((__u32 *)to)[2] = ((const __u32 *)from)[2];
}

/* The same of one. */
static __always_inline void mac_copy(void *to, const void *from)
{
	*(__u32 *)to = *(const __u32 *)from;
	((__u16 *)to)[2] = ((const __u16 *)from)[2];
}

/* Both are at even addresses. */
static __always_inline bool mac_equal(const __u8 *left, const __u8 *right)
{
	const __u16 *a = (const void *)left, *b = (const void *)right;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]));
}

/* The same where two more bytes stand behind either, none of them on the stack. */
static __always_inline bool mac_equal_wide(const void *left, const void *right)
{
	__u64 difference = *(const volatile __u64 *)left ^ *(const volatile __u64 *)right;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return !(difference << 16);
#else
	return !(difference >> 16);
#endif
}

#endif
