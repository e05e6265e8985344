/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* One packet at either hook: the first argument of nearly everything. */
#ifndef FASTNAT_HOOK_PACKET_H
#define FASTNAT_HOOK_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../abi/abi.h"

enum hook {
	HOOK_XDP,
	HOOK_TC,
};

/* Which side of the host a program is attached to. */
enum side {
	SIDE_UPLINK,                  /* packets from clients: may make flows */
	SIDE_CONTAINER,               /* packets from containers: may make flows too */
	SIDE_HOST,                    /* packets from sockets of this host, on their way out of an uplink */
	SIDE_PORT,                    /* packets from containers, where they enter a bridge */
	SIDES_THAT_BEGIN = SIDE_HOST, /* those before may begin flows at once */
};

/* What becomes of a packet. Values of their own: each hook translates them (hook/). */
enum verdict {
	VERDICT_PASS, /* not ours: untouched, up the stack, the next program runs */
	VERDICT_DROP,
	VERDICT_REDIRECTED, /* packet->action holds what the redirect helper returned */
	VERDICT_TAKEN,      /* gone on in other socket buffers; nothing to count */
	VERDICT_CONTINUE,   /* the program of packet->stage goes on with it */
};

/* What kind of ICMP echo a packet is. */
enum echo {
	ECHO_NONE,
	ECHO_REQUEST,
	ECHO_REPLY,
};

/* What is known of the transport checksum; the first four as Linux numbers them (include/linux/skbuff.h). */
enum checksum_state {
	CHECKSUM_NONE, /* no more than stands in the packet */
	CHECKSUM_UNNECESSARY,
	CHECKSUM_COMPLETE, /* the device has summed the packet up, and the socket buffer has that sum */
	CHECKSUM_PARTIAL,  /* the sum of the pseudo header; who sends the packet on completes it */
	CHECKSUM_STATE_UNKNOWN,
};

/* `hook` and `stage` are constants at each entry point, so branches on them fold away; so is `side` where programs are
 * attached. The compiler keeps the rest in registers or on the stack: every function that takes a packet is inlined, or its
 * pointers are refetched. */
struct packet {
	void *context; /* struct __sk_buff or struct xdp_md; only hook/ looks inside */
	void *data;
	void *data_end;
	enum hook hook;
	enum side side;
	enum stage stage; /* of the program that runs; with VERDICT_CONTINUE, of the one that goes on */
	bool in_lane;     /* the flow is known to be IPv4's, and so is the packet (pipeline/lane.h) */
	bool begun;       /* this packet has made its flow */
	__u64 now;        /* CLOCK_MONOTONIC, ns: in attached programs, of packets that may begin a flow at once; in the lane */
	__u8 streak;      /* flows that the packets before have begun (struct clock): of the same packets */
	struct train *train; /* to be noted when it has gone on, or NULL: of those that the lane takes */
	__u32 races;         /* how often it has lost its flow to another CPU that made the same */
	enum reason reason;  /* why the verdict is not VERDICT_REDIRECTED, when there is a countable one */
	int action;
	/* Set by packet_parse (net/parse.h). The tuple stands by itself: functions that are not inlined get its address, and
	 * whatever has its address taken as a whole is no longer kept in registers, nor its constants folded. */
	struct tuple *tuple;
	__u64 hash;             /* of the tuple, in attached programs, once its flow is looked for */
	__u32 transport_offset; /* from the start of the frame */
	__u32 ip_length;        /* bytes of the IP packet with its headers; all segments of a GSO packet */
	__u32 headers_length;   /* bytes of the IP and transport headers */
	__u8 tcp_flags;         /* as on the wire; SCTP's are those that mean the same (net/sctp.h), UDP has none */
	bool is_ipv4;
	bool without_checksum; /* that covers the addresses: UDP with none, and SCTP */
	enum echo echo;        /* read by packet_is_echo alone */
	/* STAGE_FRAGMENT alone (net/fragment.h): */
	bool is_first_fragment; /* others follow */
	bool is_later_fragment; /* no transport header, no ports of its own */
	bool is_tiny_fragment;
};

/* Whether the packet is an ICMP echo, which these stages forward, first fragments among them: the code of others need not ask.
 */
static __always_inline bool packet_is_echo(const struct packet *packet)
{
	return (packet->stage == STAGE_ECHO || packet->stage == STAGE_FRAGMENT) && packet->echo != ECHO_NONE;
}

/* Bounds a length that a helper is to read or write. The verifier of Linux 6.1 learns neither from a comparison with zero nor
 * from one of a difference, which is what the compiler makes of two; so it is shown how the length comes about. */
static __always_inline bool length_is_within(__u32 *length, __u32 first, __u32 last)
{
	__u32 beyond = *length - first;

	asm volatile("" : "+r"(beyond));
	if (beyond > last - first)
		return false;
	*length = beyond + first;
	return true;
}

/* The same number, of which the verifier knows nothing any more: it has seen it mixed with `unknown`, which it knows nothing
 * of, and back. The verifier goes on with one state then, instead of one for each value; programs load in a fraction of the
 * time. */
static __always_inline __u32 verifier_forget(__u32 number, __u32 unknown)
{
	__u32 mixed = number ^ unknown;

	asm volatile("" : "+r"(mixed));
	return mixed ^ unknown;
}

/* 0 for 0, else 1. Without a branch, of which the verifier would follow both ways to the program's end. */
static __always_inline __u32 is_nonzero(__u32 number)
{
	__u64 wide = number;

	asm("" : "+r"(wide)); /* or the compiler sees through it */
	return (wide + 0xffffffff) >> 32;
}

#endif
