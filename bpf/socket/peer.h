/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What a program asked for in place of the target that its socket talks to: getpeername and the senders of datagrams are shown
 * as that. */
#ifndef FASTNAT_SOCKET_PEER_H
#define FASTNAT_SOCKET_PEER_H

#include "local_address.h"

#define MAX_DATAGRAM_PEERS (1 << 14)

struct endpoint {
	struct address address;
	__be16 port;
	__u16 zero;
};

/* A translation: packets to `asked` go to `target`. */
struct peer {
	struct endpoint asked;
	struct endpoint target;
};

struct datagram_key {
	__u64 socket; /* its cookie */
	struct endpoint target;
	__u32 zero;
};

/* socket → its latest translation. Written by connect and sendmsg; goes with the socket. A socket without one was never
 * translated. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct peer);
} socket_peers SEC(".maps");

/* socket, target → what was asked for: earlier translations of datagram sockets that have a later one. Written by connect and
 * sendmsg; full: the least recently used goes, and the target's answers show its own address. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_DATAGRAM_PEERS);
	__type(key, struct datagram_key);
	__type(value, struct endpoint);
} datagram_peers SEC(".maps");

static __always_inline bool endpoint_equal(const struct endpoint *left, const struct endpoint *right)
{
	return address_equal(&left->address, &right->address) && left->port == right->port;
}

static __always_inline void datagram_key_set(struct datagram_key *key, struct bpf_sock_addr *ctx, const struct endpoint *target)
{
	key->socket = bpf_get_socket_cookie(ctx);
	key->target = *target;
	key->zero = 0;
}

/* false: there is no memory for it. A datagram socket goes on getting answers from whom it has sent to before. */
static __always_inline bool peer_remember(struct bpf_sock_addr *ctx, const struct peer *peer, bool is_datagram)
{
	struct peer *latest = bpf_sk_storage_get(&socket_peers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	struct datagram_key key;

	if (!latest)
		return false;
	if (is_datagram && latest->target.port && !endpoint_equal(&latest->target, &peer->target)) {
		datagram_key_set(&key, ctx, &latest->target);
		bpf_map_update_elem(&datagram_peers, &key, &latest->asked, BPF_ANY);
	}
	*latest = *peer;
	return true;
}

static __always_inline void peer_forget(struct bpf_sock_addr *ctx)
{
	bpf_sk_storage_delete(&socket_peers, ctx->sk);
}

/* Sets `asked` to what the program asked for when it got `target`; false: it asked for that itself. */
static __always_inline bool peer_recall(struct bpf_sock_addr *ctx, const struct endpoint *target, struct endpoint *asked)
{
	struct peer *latest = bpf_sk_storage_get(&socket_peers, ctx->sk, NULL, 0);
	struct endpoint *earlier;
	struct datagram_key key;

	if (!latest)
		return false;
	if (endpoint_equal(&latest->target, target)) {
		*asked = latest->asked;
		return true;
	}
	datagram_key_set(&key, ctx, target);
	earlier = bpf_map_lookup_elem(&datagram_peers, &key);
	if (!earlier)
		return false;
	*asked = *earlier;
	return true;
}

#endif
