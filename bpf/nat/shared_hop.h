/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Next hops that flows share: few, whatever their number. A flow has the number of one. */
#ifndef FASTNAT_NAT_SHARED_HOP_H
#define FASTNAT_NAT_SHARED_HOP_H

#include "flow_record.h"

static __always_inline struct shared_hop *shared_hop_at(__u32 number)
{
	return &hops.shared[number % MAX_NEXT_HOPS];
}

/* The next hop of a mapping's target. */
static __always_inline struct shared_hop *target_hop_at(__u32 mapping_id)
{
	return &hops.targets[mapping_id % MAX_MAPPINGS];
}

/* A shared one is noted as found again when it was this long ago (2^20 ns). */
#define SHARED_HOP_GRANULARITY 256
/* After this long (2^20 ns) it may become another one: no flow that has its number takes it for fresh any more. */
#define SHARED_HOP_LIFETIME 2048
/* The age of one that never was. */
#define SHARED_HOP_UNUSED 0xffffffffU

/* Copies everything but the sequence, which is the record's own. */
static __always_inline void next_hop_copy(struct next_hop *to, const struct next_hop *from)
{
	to->ifindex = from->ifindex;
	macs_copy(to->destination_mac, from->destination_mac);
	to->mtu = from->mtu;
	to->flags = from->flags;
}

/* What tells next hops apart. */
static __always_inline bool next_hop_equal(const struct next_hop *left, const struct next_hop *right)
{
	return left->ifindex == right->ifindex && left->mtu == right->mtu && left->flags == right->flags &&
	       mac_equal(left->destination_mac, right->destination_mac) && mac_equal(left->source_mac, right->source_mac);
}

static __always_inline __u32 mac_hash(const __u8 *mac)
{
	__u32 hash = (__u32)mac[2] << 24 | mac[3] << 16 | mac[4] << 8 | mac[5];

	return hash * 0x9e3779b1U;
}

/* Has the sequence odd, if it still is what its caller saw: until it is released, nobody else writes, or takes what stands
 * there. */
static __always_inline bool shared_hop_claim(struct shared_hop *shared, __u32 sequence)
{
	return !(sequence & 1) && __sync_val_compare_and_swap(&shared->next_hop.sequence, sequence, sequence + 1) == sequence;
}

static __always_inline void shared_hop_release(struct shared_hop *shared, __u32 sequence)
{
	__sync_lock_test_and_set(&shared->next_hop.sequence, sequence + 2);
}

/* Time since anybody has found it, in units of 2^20 ns. */
static __always_inline __u32 shared_hop_age(const struct shared_hop *shared, __u64 now)
{
	__u32 refreshed = READ_ONCE(shared->refreshed);

	return refreshed ? units_since(refreshed, now) : SHARED_HOP_UNUSED;
}

/* Never 0, and not ahead. */
static __always_inline __u32 shared_hop_time(__u64 now)
{
	__u32 time = now >> 20;

	return time - 1 + is_nonzero(time);
}

/* Whether the element, whose sequence was this, is the caller's to go by. Who replaces one looks at its time once more after
 * the sequence, who finds one looks at the sequence once more after the time: one of both sees the other. */
static __always_inline bool shared_hop_take(struct shared_hop *shared, __u32 sequence, __u64 now)
{
	if (shared_hop_age(shared, now) < SHARED_HOP_GRANULARITY)
		return true;
	__sync_lock_test_and_set(&shared->refreshed, shared_hop_time(now));
	return READ_ONCE(shared->next_hop.sequence) == sequence;
}

/* Has an element that nobody has found for long become this next hop. */
static __always_inline bool shared_hop_replace(struct shared_hop *shared, __u32 sequence, const struct next_hop *next_hop,
					       __u64 now)
{
	bool is_free;

	if (!shared_hop_claim(shared, sequence))
		return false;
	is_free = shared_hop_age(shared, now) > SHARED_HOP_LIFETIME;
	if (is_free) {
		next_hop_copy(&shared->next_hop, next_hop);
		shared->refreshed = shared_hop_time(now);
		shared->neighbour = now >> 30; /* it has just been told by that table */
	}
	shared_hop_release(shared, sequence);
	return is_free;
}

/* The number of this next hop, or 0 when there is no room for it, or another CPU has come between. */
__noinline int shared_hop_intern(const struct next_hop *next_hop)
{
	__u32 set, oldest = 0, oldest_age = SHARED_HOP_LIFETIME, oldest_sequence = 0;
	__u64 now = time_now();
	struct shared_hop *shared;

	if (!next_hop)
		return 0;
	set = (mac_hash(next_hop->destination_mac) ^ mac_hash(next_hop->source_mac) ^ next_hop->ifindex * 0x85ebca6bU) >> 16;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < NEXT_HOP_WAYS; i++) {
		__u32 number = (set * NEXT_HOP_WAYS + i) % MAX_NEXT_HOPS, sequence, age;

		shared = shared_hop_at(number);
		if (!number)
			continue;
		sequence = READ_ONCE(shared->next_hop.sequence);
		if (!(sequence & 1) && next_hop_equal(&shared->next_hop, next_hop))
			return shared_hop_take(shared, sequence, now) ? number : 0;
		age = shared_hop_age(shared, now);
		if (age > oldest_age) {
			oldest = number;
			oldest_age = age;
			oldest_sequence = sequence;
		}
	}
	return oldest && shared_hop_replace(shared_hop_at(oldest), oldest_sequence, next_hop, now) ? oldest : 0;
}

/* The number of a MAC address that packets arrive with. */
static __always_inline __u32 arrival_intern(const __u8 *mac)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch)
		return 0;
	scratch->arrival_hop = 0;
	__builtin_memcpy(scratch->arrival.source_mac, mac, ETH_ALEN);
	return shared_hop_intern(&scratch->arrival);
}

/* The same, quicker where it is that of the last, as a rule. */
static __always_inline __u32 arrival_find(const __u8 *mac, __u64 now)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (!scratch)
		return 0;
	if (!scratch->arrival_hop || !mac_equal(scratch->arrival.source_mac, mac) ||
	    units_since(scratch->arrival_found, now) >= SHARED_HOP_GRANULARITY) {
		scratch->arrival_hop = arrival_intern(mac);
		scratch->arrival_found = now >> 20;
	}
	return scratch->arrival_hop;
}

#endif
