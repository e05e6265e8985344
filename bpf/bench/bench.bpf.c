/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The benchmark's own programs: a generator of frames, counters where they arrive, drives that time one program, and the
 * limits, which redirect and do nothing else. One object is loaded for each path that is measured, so paths share no map; one
 * more for the generators that all of them share (Sources/Bench/Generators.swift).
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lookup.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* One element for each direction (enum bench_direction). Written by the benchmark, read by generators. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BENCH_DIRECTIONS);
	__type(key, __u32);
	__type(value, struct bench_traffic);
} traffic SEC(".maps");

/* One element for each direction, for each CPU. Written by sinks, and by generators when every packet is a new flow. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BENCH_DIRECTIONS);
	__type(key, __u32);
	__type(value, struct bench_count);
} counts SEC(".maps");

/* One element for each direction. Written by the benchmark, read by sinks. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BENCH_DIRECTIONS);
	__type(key, __u32);
	__type(value, struct bench_expectation);
} expectations SEC(".maps");

/* The program that a drive hands its frames to, at XDP and at TC. Entered by the benchmark. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} driven_xdp SEC(".maps"), driven_tc SEC(".maps");

/* MAC addresses of frames to containers, and to clients: of the bare NAT. */
__u8 hops[BENCH_DIRECTIONS][2 * ETH_ALEN];

#define IP_OFFSET sizeof(struct ethhdr)
#define UDP_OFFSET (IP_OFFSET + sizeof(struct iphdr))
/* 16-bit words from the UDP header to the end of a frame. */
#define UDP_WORDS ((BENCH_FRAME_SIZE - UDP_OFFSET) / 2)

/* Folds a sum to 16 bits (RFC 1071). */
static __always_inline __u16 sum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Adds up a whole number of 16-bit words. */
static __always_inline __u32 sum_words(const void *start, int words, __u32 sum)
{
	const __u16 *word = start;

#pragma unroll
	for (int i = 0; i < words; i++)
		sum += word[i];
	return sum;
}

/* --- generators: run by BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES in a sender's namespace ------------------------ */

/* Which flow this frame is of. */
static __always_inline __u32 flow_choose(const struct bench_traffic *to, struct bench_count *count)
{
	__u32 number;

	if (to->order == BENCH_ORDER_NEW || to->order == BENCH_ORDER_ANYBODY) {
		number = (bpf_get_smp_processor_id() << BENCH_CPU_BITS) + (__u32)count->generated++ + to->first;
		return to->order == BENCH_ORDER_NEW ? number : number * 0x9e3779b1; /* odd: all numbers are different */
	}
	if (to->order == BENCH_ORDER_EACH)
		return ((__u32)count->generated++ + to->first * bpf_get_smp_processor_id()) % to->flows;
	return to->flows == 1 ? 0 : bpf_get_prandom_u32() % to->flows;
}

/*
 * Writes the whole frame each time: the kernel recycles pages, so what a program finds is what the path last made of it.
 * A flow is 14 bits of port and the rest in the address; from containers it is the destination that varies.
 */
static __always_inline bool frame_write(void *frame, const void *end, __u32 direction, const struct bench_traffic *to,
					struct bench_count *count)
{
	struct iphdr *ip = frame + IP_OFFSET;
	struct udphdr *udp = frame + UDP_OFFSET;
	__u32 flow, sum;
	__be32 address;
	__be16 port;

	if (frame + BENCH_FRAME_SIZE > end)
		return false;
	__builtin_memcpy((__u64 *)frame, (__u64 *)to->frame, BENCH_FRAME_SIZE);
	flow = flow_choose(to, count);
	address = bpf_htonl(to->first_address + (flow >> BENCH_PORT_BITS));
	port = bpf_htons(BENCH_FIRST_PORT + (flow & ((1 << BENCH_PORT_BITS) - 1)));
	if (direction == BENCH_TO_CONTAINER) {
		ip->saddr = address;
		udp->source = port;
	} else {
		ip->daddr = address;
		udp->dest = port;
	}
	ip->check = ~sum_fold(sum_words(ip, sizeof(*ip) / 2, 0));
	sum = sum_words(&ip->saddr, 4, bpf_htons(IPPROTO_UDP) + udp->len); /* of the pseudo header */
	udp->check = ~sum_fold(sum_words(udp, UDP_WORDS, sum));
	if (!udp->check)
		udp->check = 0xffff;
	return true;
}

static __always_inline int generate(struct xdp_md *context, __u32 direction)
{
	struct bench_traffic *to = bpf_map_lookup_elem(&traffic, &direction);
	struct bench_count *count = bpf_map_lookup_elem(&counts, &direction);
	void *frame = (void *)(long)context->data;

	if (!to || !count || !frame_write(frame, (void *)(long)context->data_end, direction, to, count))
		return XDP_ABORTED;
	return bpf_redirect(to->interface, 0);
}

SEC("xdp")
int bench_client(struct xdp_md *context)
{
	return generate(context, BENCH_TO_CONTAINER);
}

SEC("xdp")
int bench_container(struct xdp_md *context)
{
	return generate(context, BENCH_TO_CLIENT);
}

/* --- drives: run many times by BPF_PROG_TEST_RUN in the host's namespace, without a path: to time one program ------------- */

/* Functions of their own, because a tail call does not return but to the caller of such a one; global, and behind a barrier,
 * so that neither compiler nor verifier takes the action that stands here for the one that comes back. */
__noinline int drive_xdp(struct xdp_md *context)
{
	int action = XDP_ABORTED;

	asm volatile("" : "+r"(action));
	bpf_tail_call(context, &driven_xdp, 0);
	return action;
}

__noinline int drive_tc(struct __sk_buff *context)
{
	int action = TC_ACT_UNSPEC;

	asm volatile("" : "+r"(action));
	bpf_tail_call(context, &driven_tc, 0);
	return action;
}

/* Writes a frame from a client. NULL: it cannot. */
static __always_inline struct bench_count *drive_begin(void *frame, const void *end)
{
	__u32 direction = BENCH_TO_CONTAINER;
	struct bench_traffic *to = bpf_map_lookup_elem(&traffic, &direction);
	struct bench_count *count = bpf_map_lookup_elem(&counts, &direction);

	return to && count && frame_write(frame, end, direction, to, count) ? count : NULL;
}

/* A redirect has `arrived`, anything else is `wrong`. */
static __always_inline void drive_end(struct bench_count *count, bool is_redirect)
{
	if (is_redirect)
		count->arrived++;
	else
		count->wrong++;
}

SEC("xdp.frags")
int bench_drive_xdp(struct xdp_md *context)
{
	struct bench_count *count = drive_begin((void *)(long)context->data, (void *)(long)context->data_end);

	if (count)
		drive_end(count, drive_xdp(context) == XDP_REDIRECT);
	return XDP_DROP;
}

SEC("tc")
int bench_drive_tc(struct __sk_buff *context)
{
	struct bench_count *count = drive_begin((void *)(long)context->data, (void *)(long)context->data_end);

	if (count)
		drive_end(count, drive_tc(context) == TC_ACT_REDIRECT);
	return TC_ACT_SHOT;
}

/* Driven in the place of what is to be timed: all that it does not cost. */
SEC("xdp.frags")
int bench_empty_xdp(struct xdp_md *context)
{
	return XDP_REDIRECT;
}

SEC("tc")
int bench_empty_tc(struct __sk_buff *context)
{
	return TC_ACT_REDIRECT;
}

/* --- sinks --------------------------------------------------------------------------------------------------------------- */

static __always_inline bool checksums_are_right(const struct iphdr *ip, const struct udphdr *udp)
{
	__u32 sum;

	if (sum_fold(sum_words(ip, sizeof(*ip) / 2, 0)) != 0xffff)
		return false;
	sum = sum_words(&ip->saddr, 4, bpf_htons(IPPROTO_UDP) + udp->len);
	return sum_fold(sum_words(udp, UDP_WORDS, sum)) == 0xffff;
}

/* Counts a datagram that came as it should: TTL, addresses and ports, and when asked for, checksums. Others are `wrong`. */
static __always_inline void arrive(const struct iphdr *ip, const struct udphdr *udp, bool are_checksums_right,
				   const struct bench_expectation *expected, struct bench_count *count)
{
	if (ip->ttl != expected->ttl || (ip->saddr & expected->source_mask) != expected->source ||
	    (ip->daddr & expected->destination_mask) != expected->destination ||
	    (expected->source_port && udp->source != expected->source_port) ||
	    (expected->destination_port && udp->dest != expected->destination_port) || !are_checksums_right)
		count->wrong++;
	else
		count->arrived++;
}

/* false: it is no datagram of a generator. */
static __always_inline bool sink(const void *frame, const void *end, __u32 direction)
{
	const struct ethhdr *ethernet = frame;
	const struct iphdr *ip = frame + IP_OFFSET;
	const struct udphdr *udp = frame + UDP_OFFSET;
	struct bench_expectation *expected = bpf_map_lookup_elem(&expectations, &direction);
	struct bench_count *count = bpf_map_lookup_elem(&counts, &direction);

	if (!expected || !count || frame + BENCH_FRAME_SIZE > end || ethernet->h_proto != bpf_htons(ETH_P_IP) ||
	    ip->protocol != IPPROTO_UDP)
		return false;
	arrive(ip, udp, !expected->checks || checksums_are_right(ip, udp), expected, count);
	return true;
}

static __always_inline int sink_xdp(struct xdp_md *context, __u32 direction)
{
	return sink((void *)(long)context->data, (void *)(long)context->data_end, direction) ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int bench_sink_container(struct xdp_md *context)
{
	return sink_xdp(context, BENCH_TO_CONTAINER);
}

SEC("xdp")
int bench_sink_client(struct xdp_md *context)
{
	return sink_xdp(context, BENCH_TO_CLIENT);
}

/* What redirect_peer brings has not been seen at XDP. */
SEC("tc")
int bench_sink_container_tc(struct __sk_buff *skb)
{
	/* Generated frames arrive in pages, of which the driver has put some bytes into the linear part. */
	if (skb->data_end - skb->data < BENCH_FRAME_SIZE && bpf_skb_pull_data(skb, BENCH_FRAME_SIZE))
		return TC_ACT_UNSPEC;
	return sink((void *)(long)skb->data, (void *)(long)skb->data_end, BENCH_TO_CONTAINER) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* On a UDP socket of the container: the packet has been through all of its stack, which has looked at the checksums. */
SEC("socket")
int bench_sink_socket(struct __sk_buff *skb)
{
	__u32 direction = BENCH_TO_CONTAINER;
	struct bench_expectation *expected = bpf_map_lookup_elem(&expectations, &direction);
	struct bench_count *count = bpf_map_lookup_elem(&counts, &direction);
	struct iphdr ip;
	struct udphdr udp;

	if (!expected || !count)
		return 0;
	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET) ||
	    bpf_skb_load_bytes(skb, 0, &udp, sizeof(udp)))
		count->wrong++;
	else
		arrive(&ip, &udp, true, expected, count);
	return 0;
}

/* --- limits -------------------------------------------------------------------------------------------------------------- */

SEC("xdp.frags")
int bench_redirect_xdp(struct xdp_md *context)
{
	return bpf_redirect(limits.container_side, 0);
}

SEC("tc")
int bench_redirect_tc_uplink(struct __sk_buff *skb)
{
	return bpf_redirect(limits.container_side, 0);
}

/* Straight into the container, past the veth's queue, and past an XDP program on the container's end. */
SEC("tc")
int bench_redirect_peer_uplink(struct __sk_buff *skb)
{
	return bpf_redirect_peer(limits.container_side, 0);
}

SEC("tc")
int bench_redirect_tc_container(struct __sk_buff *skb)
{
	return bpf_redirect(limits.uplink, 0);
}

/* --- bare NAT: the least that one is ------------------------------------------------------------------------------------- */

/* The checksum with a delta, which is below 2^17 (RFC 1624, eqn. 3). */
static __always_inline __u16 sum_apply(__u16 checksum, __u32 delta)
{
	return ~sum_fold((__u16)~checksum + delta);
}

/* Addresses of the frame, ports and checksums, and what is counted. One direction has its destination translated, the other its
 * source. */
static __always_inline void frame_translate(void *frame, struct bench_half *half, bool is_to_client)
{
	struct iphdr *ip = frame + IP_OFFSET;
	struct udphdr *udp = frame + UDP_OFFSET;
	struct tcphdr *tcp = frame + UDP_OFFSET;
	__u16 *check = ip->protocol == IPPROTO_TCP ? &tcp->check : &udp->check;
	__u16 sum;

	half->packets++;
	half->bytes += bpf_ntohs(ip->tot_len);
	__builtin_memcpy(frame, hops[is_to_client], sizeof(hops[0]));
	*(is_to_client ? &ip->saddr : &ip->daddr) = half->address;
	*(is_to_client ? &udp->source : &udp->dest) = half->port;
	ip->check = sum_apply(ip->check, half->address_delta);
	sum = sum_apply(*check, half->address_delta + half->port_delta);
	*check = sum ? sum : 0xffff; /* RFC 768 */
}

/* As the frame has them, and the other way round. */
static __always_inline void hops_note(const struct ethhdr *ethernet, bool is_to_client)
{
	__builtin_memcpy(hops[is_to_client], ethernet, sizeof(hops[0]));
	__builtin_memcpy(hops[!is_to_client], ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(hops[!is_to_client] + ETH_ALEN, ethernet->h_dest, ETH_ALEN);
}

/* A flow's number is in its client's address and port. What is neither TCP nor UDP over IPv4 stays as it is. */
static __always_inline void frame_carry(void *frame, const void *end, bool is_to_client)
{
	struct ethhdr *ethernet = frame;
	struct iphdr *ip = frame + IP_OFFSET;
	struct udphdr *udp = frame + UDP_OFFSET;
	struct bench_record *record;
	__u32 number;

	if (frame + BENCH_FRAME_SIZE > end || ethernet->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 ||
	    (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP))
		return;
	number = (bpf_ntohl(is_to_client ? ip->daddr : ip->saddr) << BENCH_PORT_BITS) +
		 bpf_ntohs(is_to_client ? udp->dest : udp->source);
	record = flow_look_up(number, is_to_client);
	if (!record) {
		hops_note(ethernet, is_to_client);
		record = flow_begin(number, is_to_client ? ip->saddr : ip->daddr, is_to_client ? udp->source : udp->dest);
		if (!record)
			return;
	}
	frame_translate(frame, is_to_client ? &record->reply : &record->original, is_to_client);
}

static __always_inline bool skb_carry(struct __sk_buff *skb, bool is_to_client)
{
	if (skb->data_end - skb->data < BENCH_FRAME_SIZE && bpf_skb_pull_data(skb, BENCH_FRAME_SIZE))
		return false;
	frame_carry((void *)(long)skb->data, (void *)(long)skb->data_end, is_to_client);
	return true;
}

SEC("xdp.frags")
int bench_bare_xdp(struct xdp_md *context)
{
	frame_carry((void *)(long)context->data, (void *)(long)context->data_end, false);
	return bpf_redirect(limits.container_side, 0);
}

SEC("tc")
int bench_bare_tc(struct __sk_buff *skb)
{
	return skb_carry(skb, false) ? bpf_redirect_peer(limits.container_side, 0) : TC_ACT_SHOT;
}

SEC("tc")
int bench_bare_tc_container(struct __sk_buff *skb)
{
	return skb_carry(skb, true) ? bpf_redirect(limits.uplink, 0) : TC_ACT_SHOT;
}
