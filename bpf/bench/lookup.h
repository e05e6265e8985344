/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The least that a table of flows does, with an index and records like fastnat's: for the bare NAT. No state, no times, no
 * ends, no second look before a flow is made. */
#ifndef FASTNAT_BENCH_LOOKUP_H
#define FASTNAT_BENCH_LOOKUP_H

#include <stdbool.h>
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bench.h"

/* For the limits: what arrives on one interface of the host leaves through the other. */
const volatile struct bench_limits limits;

/* hash → flows, and a flow's record, for the bare NAT. Their sizes are set by the benchmark. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_bucket);
} lookup_index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_record);
} lookup_records SEC(".maps");

/* One element: records taken so far. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} lookup_cursor SEC(".maps");

#define ENTRY_USED (1ULL << 31)

static __always_inline __u32 number_spread(__u32 number)
{
	number = (number ^ number >> 16) * 0x85ebca6b;
	number = (number ^ number >> 13) * 0xc2b2ae35;
	return number ^ number >> 16;
}

static __always_inline struct bench_bucket *bucket_of(__u32 number)
{
	/* Neighbouring ports of an address are neighbours, as fastnat has them (bpf/net/address.h). */
	__u32 port = number & ((1 << BENCH_PORT_BITS) - 1);
	__u32 index = (number_spread(number >> BENCH_PORT_BITS) + port) & limits.bucket_mask;

	return bpf_map_lookup_elem(&lookup_index, &index);
}

static __always_inline struct bench_record *record_at(__u64 entry)
{
	__u32 index = entry & limits.record_mask;

	return bpf_map_lookup_elem(&lookup_records, &index);
}

/* Into the first place that is free, or else the first. */
static __always_inline void bucket_enter(__u32 number, __u64 entry)
{
	struct bench_bucket *bucket = bucket_of(number);
	__u32 place = 0;

	if (!bucket)
		return;
	for (__u32 i = 8; i-- > 0;)
		if (!bucket->entries[i])
			place = i;
	bucket->entries[place & 7] = entry;
}

/* A translation into what it is already: as much work as any. */
static __always_inline void half_begin(struct bench_half *half, __be32 address, __be16 port)
{
	half->address = address;
	half->port = port;
	half->address_delta = half->port_delta = 0xffff;
}

/* The two directions of the flow of a packet, each with an entry of its own, and its record. */
static __always_inline struct bench_record *flow_begin(__u32 number, __be32 address, __be16 port)
{
	__u32 only = 0;
	__u32 *cursor = bpf_map_lookup_elem(&lookup_cursor, &only);
	struct bench_record *record;
	__u64 entry;

	if (!cursor)
		return NULL;
	entry = (__u64)number << 32 | ENTRY_USED | (__sync_fetch_and_add(cursor, 1) & limits.record_mask);
	record = record_at(entry);
	if (!record)
		return NULL;
	record->number[0] = number;
	half_begin(&record->original, address, port);
	half_begin(&record->reply, address, port);
	bucket_enter(~number, entry);
	bucket_enter(number, entry);
	return record;
}

/* The record of the flow of this number, by the entry of one of its directions. NULL: there is none. */
static __always_inline struct bench_record *flow_look_up(__u32 number, bool is_reply)
{
	struct bench_bucket *bucket = bucket_of(is_reply ? ~number : number);

	if (!bucket)
		return NULL;
	for (int i = 0; i < 8; i++) {
		__u64 entry = bucket->entries[i];
		struct bench_record *record;

		if (entry >> 32 != number || !(entry & ENTRY_USED))
			continue;
		record = record_at(entry);
		if (record && record->number[0] == number)
			return record;
	}
	return NULL;
}

#endif
