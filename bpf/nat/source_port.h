/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Finds a source port for a flow whose own is taken: one that no other flow towards the same destination has and, where the
 * address is this host's, no socket of the host. */
#ifndef FASTNAT_NAT_SOURCE_PORT_H
#define FASTNAT_NAT_SOURCE_PORT_H

#include "flow_slots.h"

/* Ports tried at random first: enough as long as the range is not nearly full. */
#define PORT_RANDOM_TRIES 8
/* Ports then looked at in turn, for one packet: a bound on its cost, some 50 us. The next packet goes on where this one ended,
 * so the whole range is looked at sooner or later however large it is. */
#define PORT_SCAN_LIMIT 1024

/* Whether a socket of this host would get a packet of `tuple`: a connected one, or one that listens. */
__noinline int host_socket_takes(struct __sk_buff *skb, const struct tuple *tuple)
{
	struct bpf_sock_tuple sockets = {};
	struct bpf_sock *socket;
	__u32 size;

	if (!tuple)
		return 0;
	if (address_is_ipv4(&tuple->source)) {
		sockets.ipv4.saddr = tuple->source.words[3];
		sockets.ipv4.daddr = tuple->destination.words[3];
		sockets.ipv4.sport = tuple->source_port;
		sockets.ipv4.dport = tuple->destination_port;
		size = sizeof(sockets.ipv4);
	} else {
		__builtin_memcpy(sockets.ipv6.saddr, tuple->source.words, sizeof(sockets.ipv6.saddr));
		__builtin_memcpy(sockets.ipv6.daddr, tuple->destination.words, sizeof(sockets.ipv6.daddr));
		sockets.ipv6.sport = tuple->source_port;
		sockets.ipv6.dport = tuple->destination_port;
		size = sizeof(sockets.ipv6);
	}
	if (tuple->protocol == IPPROTO_TCP)
		socket = size == sizeof(sockets.ipv4)
				 ? bpf_skc_lookup_tcp(skb, &sockets, sizeof(sockets.ipv4), BPF_F_CURRENT_NETNS, 0)
				 : bpf_skc_lookup_tcp(skb, &sockets, sizeof(sockets.ipv6), BPF_F_CURRENT_NETNS, 0);
	else if (tuple->protocol == IPPROTO_UDP)
		socket = size == sizeof(sockets.ipv4)
				 ? bpf_sk_lookup_udp(skb, &sockets, sizeof(sockets.ipv4), BPF_F_CURRENT_NETNS, 0)
				 : bpf_sk_lookup_udp(skb, &sockets, sizeof(sockets.ipv6), BPF_F_CURRENT_NETNS, 0);
	else
		return 0;
	if (!socket)
		return 0;
	bpf_sk_release(socket);
	return 1;
}

static __always_inline bool port_is_in_range(const struct flow_request *request, __be16 port)
{
	return bpf_ntohs(port) >= request->first_port && bpf_ntohs(port) <= request->last_port;
}

/* Whether the port in `reply` is free. Of two CPUs that hear so at once, only one can enter it into the index. */
static __always_inline bool source_port_is_free(struct __sk_buff *skb, const struct tuple *reply, bool of_host)
{
	struct flow_position other;

	return !flow_index_find(reply, flow_hash(reply), 0, &other) && !(of_host && host_socket_takes(skb, reply));
}

struct port_search {
	struct __sk_buff *skb;
	__u32 found; /* host byte order; 0: none yet */
};

/* RFC 4787, REQ-4: a port of the same parity is preferred. */
static __always_inline __u32 port_random(const struct flow_request *request)
{
	__u32 ports = request->last_port - request->first_port + 1;
	__u32 port = request->first_port + bpf_get_prandom_u32() % ports;
	__u32 same = (port & ~1U) | (bpf_ntohs(request->original.source_port) & 1);

	return same >= request->first_port && same <= request->last_port ? same : port;
}

static int port_try(__u32 index, struct port_search *search)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_request *request;
	__u32 port;

	if (!scratch)
		return 1;
	request = &scratch->request;
	if (index < PORT_RANDOM_TRIES) {
		port = port_random(request);
	} else {
		scratch->next_port++;
		port = request->first_port + scratch->next_port % (request->last_port - request->first_port + 1);
	}
	scratch->candidate.destination_port = bpf_htons(port);
	if (!source_port_is_free(search->skb, &scratch->candidate, request->flags & FLOW_HOST_PORT))
		return 0;
	search->found = port;
	return 1;
}

/* Sets the destination port of the reply of the request in this CPU's scratch to a free one of its range. 0, or -1 when none
 * was found. */
static __noinline int source_port_find(struct __sk_buff *skb)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct port_search search = {.skb = skb};
	__u32 ports;

	if (!scratch || scratch->request.original.protocol == IPPROTO_SCTP) /* keeps its ports (net/sctp.h) */
		return -1;
	scratch->candidate = scratch->request.reply;
	ports = scratch->request.last_port - scratch->request.first_port + 1;
	bpf_loop(PORT_RANDOM_TRIES + (ports < PORT_SCAN_LIMIT ? ports : PORT_SCAN_LIMIT), port_try, &search, 0);
	if (!search.found)
		return -1;
	scratch->request.reply.destination_port = bpf_htons(search.found);
	return 0;
}

#endif
