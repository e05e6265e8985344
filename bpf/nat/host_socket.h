/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The host's own sockets and the external ports of containers. A container never gets a port that a socket has (source_port.h);
 * a socket that is connected later may choose one that a container has towards the same destination. Then the socket's packets
 * leave with another port, as the kernel's own NAT would do it: a flow of this host, which only changes ports. So it is with
 * identifiers of ICMP echo, but that no socket can be asked for its own: a container may get one that the host is using towards
 * the same destination, and the host's next request then leaves with another. */
#ifndef FASTNAT_NAT_HOST_SOCKET_H
#define FASTNAT_NAT_HOST_SOCKET_H

#include "masquerade.h"

static __always_inline void tuple_reverse(struct tuple *reversed, const struct tuple *tuple)
{
	reversed->source = tuple->destination;
	reversed->destination = tuple->source;
	reversed->source_port = tuple->destination_port;
	reversed->destination_port = tuple->source_port;
	reversed->protocol = tuple->protocol;
	__builtin_memset(reversed->zero, 0, sizeof(reversed->zero));
}

/* Whether replies to a socket's packet would go to a container. */
static __always_inline bool host_packet_clashes(const struct tuple *tuple)
{
	struct flow_reference other;
	struct tuple reply;

	tuple_reverse(&reply, tuple);
	return flow_find(&reply, &other) && entry_direction(other.entry) == DIRECTION_REPLY;
}

/* Makes the flow of a socket whose port a container has; the request in this CPU's scratch has the packet's tuple. */
__noinline int host_begin(struct __sk_buff *skb)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow_request *request;

	if (!scratch)
		return REASON_TABLE_FULL;
	request = &scratch->request;
	tuple_reverse(&request->reply, &request->original);
	request->first_port = PORT_FIRST_UNPRIVILEGED;
	request->last_port = PORT_LAST;
	request->mapping_id = MAPPING_NONE;
	request->flags = FLOW_HOST_PORT | FLOW_OF_HOST;
	request->parent = SLOT_NONE;
	return flow_create(skb);
}

#endif
