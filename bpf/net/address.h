/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Predicates and conversions of addresses and tuples. */
#ifndef FASTNAT_NET_ADDRESS_H
#define FASTNAT_NET_ADDRESS_H

#include "headers.h"

#define MAPPED_PREFIX bpf_htonl(0xffff)

/* The second eight bytes of an IPv4 address; the first are zero. */
static __always_inline __u64 mapped_word(__be32 ipv4)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (__u64)ipv4 << 32 | MAPPED_PREFIX;
#else
	return (__u64)MAPPED_PREFIX << 32 | ipv4;
#endif
}

/* In stores of eight bytes, as they are compared: a processor makes a load wait that it would have to put together out of two
 * stores. */
static __always_inline void address_set_ipv4(struct address *address, __be32 ipv4)
{
	__u64 first = 0, last = mapped_word(ipv4);

	__builtin_memcpy(address->words, &first, sizeof(first));
	__builtin_memcpy(address->words + 2, &last, sizeof(last));
}

/* The same of what stands behind the addresses. */
static __always_inline void tuple_set_ports(struct tuple *tuple, __u8 protocol, __be16 source, __be16 destination)
{
	struct {
		__be16 source;
		__be16 destination;
		__u8 protocol;
		__u8 zero[3];
	} ports = {source, destination, protocol, {}};

	__builtin_memcpy(&tuple->source_port, &ports, sizeof(ports));
}

/* A copy in stores of eight bytes, also of a tuple that is kept in registers. */
static __always_inline void tuple_copy(struct tuple *to, const struct tuple *from)
{
	to->source = from->source;
	to->destination = from->destination;
	tuple_set_ports(to, from->protocol, from->source_port, from->destination_port);
}

static __always_inline void address_set_ipv6(struct address *address, const struct in6_addr *ipv6)
{
	__builtin_memcpy(address->words, ipv6, sizeof(address->words));
}

static __always_inline bool address_is_ipv4(const struct address *address)
{
	return !address->words[0] && !address->words[1] && address->words[2] == MAPPED_PREFIX;
}

/* Any local address of the family of `address`, as mapping keys write it. */
static __always_inline void address_set_any(struct address *any, bool is_ipv4)
{
	__u64 first = 0, last = is_ipv4 ? mapped_word(0) : 0;

	__builtin_memcpy(any->words, &first, sizeof(first));
	__builtin_memcpy(any->words + 2, &last, sizeof(last));
}

/* What no host on a network has (RFC 1812, 5.3.7; RFC 4291, 2.5): unspecified, loopback, multicast, limited broadcast. A router
 * drops such sources; since a redirect bypasses the stack, its check is ours. */
static __always_inline bool address_is_no_host(const struct address *address)
{
	__u32 first = bpf_ntohl(address->words[0]);
	__u32 last = bpf_ntohl(address->words[3]);

	if (address_is_ipv4(address))
		return last >> 24 == 0 || last >> 24 == 127 || last >> 28 == 0xe || last == 0xffffffff;
	if (first >> 24 == 0xff)
		return true;
	return !address->words[0] && !address->words[1] && !address->words[2];
}

/* Routers do not forward these (RFC 4291, 2.5.6; RFC 3927, 7). */
static __always_inline bool address_is_link_local(const struct address *address)
{
	if (address_is_ipv4(address))
		return bpf_ntohl(address->words[3]) >> 16 == 0xa9fe;
	return bpf_ntohl(address->words[0]) >> 22 == 0xfe80 >> 6;
}

static __always_inline bool address_equal(const struct address *left, const struct address *right)
{
	return !((left->words[0] ^ right->words[0]) | (left->words[1] ^ right->words[1]) | (left->words[2] ^ right->words[2]) |
		 (left->words[3] ^ right->words[3]));
}

static __always_inline bool tuple_equal(const struct tuple *left, const struct tuple *right)
{
	const __u64 *a = (const void *)left, *b = (const void *)right;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]));
}

/* Whether the tuple's addresses are these. */
static __always_inline bool tuple_has_ipv4(const struct tuple *tuple, __be32 source, __be32 destination)
{
	const __u64 *words = (const void *)tuple;

	return !(words[0] | (words[1] ^ mapped_word(source)) | words[2] | (words[3] ^ mapped_word(destination)));
}

/* A keyed multiply-and-fold hash, word by word. It begins with a key. */
static __always_inline __u64 hash_add(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

static __always_inline __u64 hash_finish(__u64 hash)
{
	hash *= 0xd6e8feb86659fd93ULL;
	return hash ^ hash >> 29;
}

/* A product of 32-bit halves, each with a secret added. A sum of such is a keyed hash (NH of UMAC, RFC 4418, 5.2): whoever does
 * not know the keys finds inputs of one sum by chance alone, 2^-32 for a pair. The products do not wait for each other. */
static __always_inline __u64 hash_product(__u32 left, __u32 right, __u64 key)
{
	return (__u64)(__u32)(left + (__u32)key) * (__u32)(right + (__u32)(key >> 32));
}

/* Ports that clients take and servers seldom have (RFC 6335, section 6; Linux begins here). Host byte order. One bit, by which
 * ports are told apart. */
#define PORT_FIRST_EPHEMERAL 32768

/* The upper half is a hash of both ends and their ports. The lower one, where only the port of `end` is a client's, is of `end`
 * alone, which stands in both tuples of its flow as long as the client is seen under its own address: then both have the same
 * lower half. Its port is added, not hashed, so that flows from neighbouring ports are neighbours in the index
 * (docs/decisions/0037-neighbours.md). `alone` and `both` are sums of products; the halves multiply by different numbers, as
 * they may be of the same sum. */
static __always_inline __u64 ends_hash_finish(__u64 alone, __u64 both, __be16 port, __be16 other_port)
{
	if (!(port & ~other_port & bpf_htons(PORT_FIRST_EPHEMERAL)))
		alone = both;
	alone = (alone ^ alone >> 32) * 0x9e3779b97f4a7c15ULL >> 32;
	return ((both ^ both >> 32) * 0xd6e8feb86659fd93ULL & 0xffffffff00000000ULL) | (__u32)(alone + bpf_ntohs(port));
}

static __always_inline __u64 ends_hash_ipv4(__be32 end, __be16 port, __be32 other, __be16 other_port, __u8 protocol,
					    const volatile __u64 *keys)
{
	__u64 alone = hash_product(end, protocol, keys[0]);

	return ends_hash_finish(alone, alone + hash_product(other, (__u32)port << 16 | other_port, keys[1]), port, other_port);
}

static __always_inline __u64 ends_hash(const struct address *end, __be16 port, const struct address *other, __be16 other_port,
				       __u8 protocol, const volatile __u64 *keys)
{
	__u64 alone = hash_product(end->words[0], end->words[1], keys[0]) +
		      hash_product(end->words[2], end->words[3], keys[1]) + hash_product(protocol, 0, keys[2]);
	__u64 both = alone + hash_product(other->words[0], other->words[1], keys[3]) +
		     hash_product(other->words[2], other->words[3], keys[4]) + hash_product(port, other_port, keys[5]);

	return ends_hash_finish(alone, both, port, other_port);
}

/* The end with the higher port first. */
static __always_inline __u64 tuple_hash_ipv4(__be32 source, __be16 source_port, __be32 destination, __be16 destination_port,
					     __u8 protocol, const volatile __u64 *keys)
{
	if (bpf_ntohs(source_port) > bpf_ntohs(destination_port))
		return ends_hash_ipv4(source, source_port, destination, destination_port, protocol, keys);
	return ends_hash_ipv4(destination, destination_port, source, source_port, protocol, keys);
}

static __always_inline __u64 tuple_hash_ipv6(const struct address *source, __be16 source_port,
					     const struct address *destination, __be16 destination_port, __u8 protocol,
					     const volatile __u64 *keys)
{
	if (bpf_ntohs(source_port) > bpf_ntohs(destination_port))
		return ends_hash(source, source_port, destination, destination_port, protocol, keys);
	return ends_hash(destination, destination_port, source, source_port, protocol, keys);
}

static __always_inline __u64 tuple_hash(const struct tuple *tuple, const volatile __u64 *keys)
{
	if (address_is_ipv4(&tuple->source))
		return tuple_hash_ipv4(tuple->source.words[3], tuple->source_port, tuple->destination.words[3],
				       tuple->destination_port, tuple->protocol, keys);
	return tuple_hash_ipv6(&tuple->source, tuple->source_port, &tuple->destination, tuple->destination_port,
			       tuple->protocol, keys);
}

#endif
