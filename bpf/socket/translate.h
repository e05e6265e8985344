/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Sockets of the host itself: where they connect or send to, and whom they think they talk to. docs/packet-walk.md tells the
 * same story. */
#ifndef FASTNAT_SOCKET_TRANSLATE_H
#define FASTNAT_SOCKET_TRANSLATE_H

#include "peer.h"

/* What every program returns: the system call goes on, with the address as it is now. */
#define SOCKET_PROCEED 1

/* A socket's wish to reach somebody. */
struct attempt {
	struct endpoint to;
	struct endpoint from; /* as far as it is bound, or the datagram names it; else unspecified */
	__u8 protocol;
	bool is_bound_to_device;
};

/* Who has a port of this host already. */
enum occupant {
	OCCUPANT_NONE,
	OCCUPANT_ANY_ADDRESS,  /* a socket that listens on all addresses */
	OCCUPANT_THIS_ADDRESS, /* one that listens on just this one */
	OCCUPANT_CONNECTED,    /* one that is connected to the sender */
};

static __always_inline void address_set_loopback(struct address *address, bool is_ipv4)
{
	address_set_any(address, is_ipv4);
	address->words[3] = bpf_htonl(is_ipv4 ? INADDR_LOOPBACK : 1);
}

static __always_inline bool address_is_unspecified(const struct address *address)
{
	return !address->words[0] && !address->words[1] && !address->words[3] &&
	       (!address->words[2] || address->words[2] == MAPPED_PREFIX);
}

static __always_inline bool address_is_loopback(const struct address *address)
{
	if (address_is_ipv4(address))
		return bpf_ntohl(address->words[3]) >> 24 == 127;
	return !address->words[0] && !address->words[1] && !address->words[2] && address->words[3] == bpf_htonl(1);
}

/* Sockets of the network namespace that fastnat was loaded in alone. */
static __always_inline bool socket_is_ours(struct bpf_sock_addr *ctx)
{
	return bpf_get_netns_cookie(ctx) == namespace_cookie;
}

/* The address that a socket is bound to. An IPv6 socket's IPv4 address stands for nothing when it has an IPv6 address. (Both
 * are read in any case: the compiler would join reads in two branches behind a pointer, which the verifier refuses.) */
static __always_inline void socket_read_source(const volatile struct bpf_sock *socket, struct address *source)
{
	__be32 ipv4 = socket->src_ip4;

	source->words[0] = socket->src_ip6[0];
	source->words[1] = socket->src_ip6[1];
	source->words[2] = socket->src_ip6[2];
	source->words[3] = socket->src_ip6[3];
	if (socket->family == FAMILY_IPV4)
		address_set_ipv4(source, ipv4);
}

/* A hook sees the address of its own family only: `is_ipv4` is a constant at each entry point. */
static __always_inline void endpoint_read(struct bpf_sock_addr *ctx, bool is_ipv4, struct endpoint *endpoint)
{
	endpoint->zero = 0;
	endpoint->port = ctx->user_port;
	if (is_ipv4) {
		address_set_ipv4(&endpoint->address, ctx->user_ip4);
		return;
	}
	endpoint->address.words[0] = ctx->user_ip6[0];
	endpoint->address.words[1] = ctx->user_ip6[1];
	endpoint->address.words[2] = ctx->user_ip6[2];
	endpoint->address.words[3] = ctx->user_ip6[3];
}

static __always_inline void endpoint_write(struct bpf_sock_addr *ctx, bool is_ipv4, const struct endpoint *endpoint)
{
	ctx->user_port = endpoint->port;
	if (is_ipv4) {
		ctx->user_ip4 = endpoint->address.words[3];
		return;
	}
	ctx->user_ip6[0] = endpoint->address.words[0];
	ctx->user_ip6[1] = endpoint->address.words[1];
	ctx->user_ip6[2] = endpoint->address.words[2];
	ctx->user_ip6[3] = endpoint->address.words[3];
}

static __always_inline void attempt_read(struct bpf_sock_addr *ctx, bool is_ipv4, struct attempt *attempt)
{
	struct bpf_sock *socket = ctx->sk;

	endpoint_read(ctx, is_ipv4, &attempt->to);
	/* The stack takes the unspecified address for the loopback. */
	if (address_is_unspecified(&attempt->to.address))
		address_set_loopback(&attempt->to.address, is_ipv4 || address_is_ipv4(&attempt->to.address));
	attempt->from.zero = 0;
	attempt->from.port = bpf_htons(socket->src_port);
	socket_read_source(socket, &attempt->from.address);
	attempt->protocol = ctx->protocol;
	attempt->is_bound_to_device = socket->bound_dev_if;
}

/* A datagram may name its source (IP_PKTINFO); the kernel fills in what the socket is bound to. */
static __always_inline void attempt_read_datagram_source(struct bpf_sock_addr *ctx, bool is_ipv4, struct attempt *attempt)
{
	struct address *source = &attempt->from.address;

	if (is_ipv4) {
		address_set_ipv4(source, ctx->msg_src_ip4);
		return;
	}
	source->words[0] = ctx->msg_src_ip6[0];
	source->words[1] = ctx->msg_src_ip6[1];
	source->words[2] = ctx->msg_src_ip6[2];
	source->words[3] = ctx->msg_src_ip6[3];
}

/* A source on the loopback cannot get to a target, and a socket that is bound to a device only through that. A link-local
 * destination has named a device, too. */
static __always_inline bool attempt_can_leave(const struct attempt *attempt)
{
	return !attempt->is_bound_to_device && !address_is_loopback(&attempt->from.address) &&
	       (address_is_ipv4(&attempt->to.address) || !address_is_link_local(&attempt->to.address));
}

static __always_inline enum occupant socket_occupies(const struct bpf_sock *socket, const struct address *address)
{
	struct address bound;

	if (socket->dst_port)
		return OCCUPANT_CONNECTED;
	socket_read_source(socket, &bound);
	return address_equal(&bound, address) ? OCCUPANT_THIS_ADDRESS : OCCUPANT_ANY_ADDRESS;
}

/* Who would get this attempt if nothing were published. An unbound socket has the address that it sends to as its source. */
static __noinline enum occupant port_occupant(struct bpf_sock_addr *ctx, const struct attempt *attempt)
{
	const struct address *to = &attempt->to.address, *from = &attempt->from.address;
	struct bpf_sock_tuple tuple = {};
	enum occupant occupant;
	struct bpf_sock *socket;
	__u32 size;

	if (address_is_unspecified(from))
		from = to;
	if (address_is_ipv4(to)) {
		tuple.ipv4.saddr = from->words[3];
		tuple.ipv4.daddr = to->words[3];
		tuple.ipv4.sport = attempt->from.port;
		tuple.ipv4.dport = attempt->to.port;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, from, sizeof(*from));
		__builtin_memcpy(tuple.ipv6.daddr, to, sizeof(*to));
		tuple.ipv6.sport = attempt->from.port;
		tuple.ipv6.dport = attempt->to.port;
		size = sizeof(tuple.ipv6);
	}
	if (attempt->protocol == IPPROTO_TCP)
		socket = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		socket = bpf_sk_lookup_udp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return OCCUPANT_NONE;
	occupant = socket_occupies(socket, to);
	bpf_sk_release(socket);
	return occupant;
}

/* Whether the attempt comes to a published port: --allow is about the network, the host can reach the container anyway. */
static __noinline bool target_find(struct bpf_sock_addr *ctx, const struct attempt *attempt, struct endpoint *target)
{
	const struct settings *current = map_only_element(&settings);
	bool is_loopback = address_is_loopback(&attempt->to.address);
	struct mapping_match match;
	struct tuple tuple = {};
	enum occupant occupant;

	tuple.destination = attempt->to.address;
	tuple.destination_port = attempt->to.port;
	tuple.protocol = attempt->protocol;
	if (!current || !mapping_find(current, &tuple, &match))
		return false;
	if (match.any_address && !is_loopback && !address_is_local(&attempt->to.address))
		return false;
	occupant = port_occupant(ctx, attempt);
	/* An answer to a local client whose port happens to be in a published range. */
	if (occupant == OCCUPANT_CONNECTED)
		return false;
	/* A program of this host alone, such as a resolver on 127.0.0.53, keeps its port from a mapping of all addresses. */
	if (match.any_address && is_loopback && occupant == OCCUPANT_THIS_ADDRESS)
		return false;
	target->address = match.mapping->target;
	target->port = mapping_target_port(&match, attempt->to.port);
	target->zero = 0;
	return true;
}

/* Whether the socket can speak to the target, whose family may be the other one. A socket of IPv6 can connect by IPv4, too,
 * while it has no address of its own. */
static __always_inline bool target_suits(const struct attempt *attempt, const struct endpoint *target, bool may_cross)
{
	return address_is_ipv4(&target->address) == address_is_ipv4(&attempt->to.address) ||
	       (may_cross && address_is_unspecified(&attempt->from.address));
}

/* The target of an attempt, if it has one. `may_cross`: the socket is one of IPv6 that connects. When it tries [::1] first, as
 * for localhost, and finds nobody there, it is led where 127.0.0.1 leads. */
static __always_inline bool attempt_translate(struct bpf_sock_addr *ctx, struct attempt *attempt, bool may_cross,
					      struct peer *peer)
{
	if (!attempt_can_leave(attempt))
		return false;
	peer->asked = attempt->to;
	if (target_find(ctx, attempt, &peer->target))
		return target_suits(attempt, &peer->target, may_cross);
	if (!may_cross || address_is_ipv4(&attempt->to.address) || !address_is_loopback(&attempt->to.address) ||
	    !address_is_unspecified(&attempt->from.address) || port_occupant(ctx, attempt) != OCCUPANT_NONE)
		return false;
	address_set_loopback(&attempt->to.address, true);
	return target_find(ctx, attempt, &peer->target);
}

static __always_inline int socket_connect(struct bpf_sock_addr *ctx, bool is_ipv4)
{
	struct attempt attempt = {};
	struct peer peer;

	if (!socket_is_ours(ctx))
		return SOCKET_PROCEED;
	attempt_read(ctx, is_ipv4, &attempt);
	if (!attempt_translate(ctx, &attempt, !is_ipv4, &peer))
		peer_forget(ctx);
	else if (peer_remember(ctx, &peer, attempt.protocol == IPPROTO_UDP))
		endpoint_write(ctx, is_ipv4, &peer.target);
	return SOCKET_PROCEED;
}

/* The kernel refuses a datagram whose address changes family here, so none crosses. */
static __always_inline int socket_send(struct bpf_sock_addr *ctx, bool is_ipv4)
{
	struct attempt attempt = {};
	struct peer peer;

	if (!socket_is_ours(ctx))
		return SOCKET_PROCEED;
	attempt_read(ctx, is_ipv4, &attempt);
	attempt_read_datagram_source(ctx, is_ipv4, &attempt);
	if (attempt_translate(ctx, &attempt, false, &peer) && peer_remember(ctx, &peer, true))
		endpoint_write(ctx, is_ipv4, &peer.target);
	return SOCKET_PROCEED;
}

/* getpeername, and the sender of a datagram. */
static __always_inline int socket_name_peer(struct bpf_sock_addr *ctx, bool is_ipv4)
{
	struct endpoint target, asked;

	if (!socket_is_ours(ctx))
		return SOCKET_PROCEED;
	endpoint_read(ctx, is_ipv4, &target);
	if (peer_recall(ctx, &target, &asked))
		endpoint_write(ctx, is_ipv4, &asked);
	return SOCKET_PROCEED;
}

#endif
