/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Which records of `flows` are in use: a bitmap that any CPU allocates from and frees to, without a lock. */
#ifndef FASTNAT_NAT_FLOW_SLOTS_H
#define FASTNAT_NAT_FLOW_SLOTS_H

#include "flow_index.h"

/* Words (of 64 slots) that one allocation looks at where it has found a slot last, and then, in a loop that takes longer (20 us
 * for all on a slow machine): flows that began one after another and live on fill words in a row. */
#define SLOT_PROBE_WORDS 16
#define SLOT_SEARCH_WORDS 1024
/* Free pairs that a search may find to rest: each is a record that no cache holds. From each it goes on at a random word, as
 * around flows that have died together all have to. */
#define RESTING_PAIRS 16
/* CPUs begin to look this many words apart. */
#define SLOT_CPU_STRIDE 61

/* 0 to 63; `word` is not 0. Without a branch: the verifier would follow each of 64 ways. */
static __always_inline __u32 bit_lowest(__u64 word)
{
	__u32 bit = 0;

#pragma unroll
	for (__u32 half = 32; half; half /= 2) {
		__u32 skipped = (1 - is_nonzero(word & ((1ULL << half) - 1))) * half;

		word >>= skipped;
		bit += skipped;
	}
	return bit;
}

/* Bits of a word at which a pair of slots may begin. */
#define PAIR_BITS 0x5555555555555555ULL
/* Pairs and full words that one allocation looks at before it searches: a pair that is free may not be one to take. */
#define PAIR_PROBES 16
/* Pairs of a word that it looks at. */
#define PAIRS_OF_WORD 4
/* The first pair of the word that is free, from a bit on; 64: none. */
static __always_inline __u32 word_free_pair(__u64 taken, __u32 bit)
{
	__u64 pairs = ~(taken | taken >> 1) & PAIR_BITS;
	__u64 behind = pairs >> (bit & 63) << (bit & 63);

	if (!pairs)
		return SLOTS_PER_WORD;
	return bit_lowest(behind ?: pairs);
}

/* Not for a second from when its record died: whoever has found that just before writes its counters
 * (docs/decisions/0029-small-records.md). */
static __always_inline bool slot_may_hold_addresses(__u32 slot)
{
	const struct flow *former = flow_at(slot);

	return former && (former->parent == ADDRESSES_MARK || !former->state.generation ||
			  (__u32)bpf_jiffies64() - former->original_ends.source > layout.second_ticks);
}

/* Takes the pair of slots at `bit` of a word, or nothing. */
static __always_inline bool word_take_pair(__u64 *word, __u32 number, __u32 bit)
{
	__u64 both = 3ULL << bit, taken = __sync_fetch_and_or(word, both) & both;

	if (!taken && slot_may_hold_addresses(number * SLOTS_PER_WORD + bit + 1))
		return true;
	__sync_fetch_and_and(word, ~(both & ~taken));
	return false;
}

/* Takes the slot, or pair, of a word that is free: its bit; 64: none is; 65: a pair is, and may not be taken. */
static __always_inline __u32 word_take(__u64 *word, __u32 number, __u32 is_wide)
{
	__u64 taken = READ_ONCE(*word);
	__u32 bit;

	if (taken == ~0ULL)
		return SLOTS_PER_WORD;
	bit = is_wide ? word_free_pair(taken, 0) & ~1U : bit_lowest(~taken);
	if (bit >= SLOTS_PER_WORD)
		return SLOTS_PER_WORD;
	if (is_wide)
		return word_take_pair(word, number, bit) ? bit : SLOTS_PER_WORD + 1;
	return __sync_fetch_and_or(word, 1ULL << bit) & 1ULL << bit ? SLOTS_PER_WORD : bit;
}

/* One step of bpf_loop, with no context but the CPU's cursor: the stack is full here. 1 ends the loop. */
static long slot_search_word(__u32 index, void *context)
{
	struct slot_cursor *cursor = map_only_element(&slot_cursors);
	__u32 stride = bpf_get_smp_processor_id() * SLOT_CPU_STRIDE, number, bit;
	__u64 *word;

	if (!cursor)
		return 1;
	number = (cursor->place / SLOTS_PER_WORD + stride) & layout.slot_word_mask;
	word = bpf_map_lookup_elem(&flow_slots, &number);
	if (!word)
		return 1;
	bit = word_take(word, number, cursor->is_wide);
	if (bit == SLOTS_PER_WORD) {
		cursor->place = (cursor->place & ~(SLOTS_PER_WORD - 1)) + SLOTS_PER_WORD;
		return 0;
	}
	if (bit > SLOTS_PER_WORD) {
		cursor->place = bpf_get_prandom_u32() & ~(SLOTS_PER_WORD - 1);
		return ++cursor->resting == RESTING_PAIRS;
	}
	cursor->found = number * SLOTS_PER_WORD + bit;
	return 1;
}

/* Where no slot is free near the cursor: a slot, or a pair, out of the words behind it. The next search begins where this one
 * ends, so that no table is too large; but of searches that find nothing there is one in a tick. */
__noinline __u32 flow_slot_search(__u32 is_wide)
{
	struct slot_cursor *cursor = map_only_element(&slot_cursors);
	__u32 tick = bpf_jiffies64();

	is_wide &= 1;
	if (!cursor || cursor->failed[is_wide] == tick)
		return SLOT_NONE;
	cursor->is_wide = is_wide;
	cursor->found = SLOT_NONE;
	cursor->resting = 0;
	bpf_loop(SLOT_SEARCH_WORDS, slot_search_word, NULL, 0);
	if (cursor->found == SLOT_NONE)
		cursor->failed[is_wide] = tick;
	return cursor->found;
}

static __always_inline __u32 flow_slot_allocate_inlined(void)
{
	struct slot_cursor *cursor = map_only_element(&slot_cursors);
	__u32 stride = bpf_get_smp_processor_id() * SLOT_CPU_STRIDE;

	if (!cursor)
		return SLOT_NONE;
	for (int i = 0; i < SLOT_PROBE_WORDS; i++) {
		__u32 number = (cursor->place / SLOTS_PER_WORD + stride) & layout.slot_word_mask;
		__u32 bit = cursor->place % SLOTS_PER_WORD;
		__u64 *word = bpf_map_lookup_elem(&flow_slots, &number);
		__u64 taken;

		if (!word)
			return SLOT_NONE;
		taken = READ_ONCE(*word);
		if (taken != ~0ULL) {
			if (taken >> bit & 1) /* seldom: slots are taken in turn, and freed long after */
				bit = bit_lowest(~taken);
			if (!(__sync_fetch_and_or(word, 1ULL << bit) & 1ULL << bit)) {
				cursor->place = (cursor->place & ~(SLOTS_PER_WORD - 1)) | (bit + 1) % SLOTS_PER_WORD;
				return number * SLOTS_PER_WORD + bit;
			}
		}
		cursor->place = (cursor->place & ~(SLOTS_PER_WORD - 1)) + SLOTS_PER_WORD;
	}
	return SLOT_NONE;
}

__noinline __u32 flow_slot_allocate(void)
{
	return flow_slot_allocate_inlined();
}

/* Has this CPU look at `slot` first when it allocates next. */
static __always_inline void flow_slot_prefer(__u32 slot)
{
	struct slot_cursor *cursor = map_only_element(&slot_cursors);

	if (cursor)
		cursor->place = slot - bpf_get_smp_processor_id() * SLOT_CPU_STRIDE * SLOTS_PER_WORD;
}

/* Frees the slot, or slots, of a flow that is dead. */
static __always_inline void flow_slots_free(struct flow *flow, __u32 slot, __u32 wide)
{
	__u32 number = slot / SLOTS_PER_WORD;
	__u64 *word = bpf_map_lookup_elem(&flow_slots, &number);

	flow->original_ends.source = bpf_jiffies64(); /* for slot_may_hold_addresses */
	if (word)
		__sync_fetch_and_and(word, ~((1ULL + 2 * wide) << (slot % SLOTS_PER_WORD)));
}

/* An even slot and the one after it. */
__noinline __u32 flow_slot_allocate_pair(void)
{
	struct slot_cursor *cursor = map_only_element(&slot_cursors);
	__u32 stride = bpf_get_smp_processor_id() * SLOT_CPU_STRIDE;
	__u64 tried;
	__u32 place;

	if (!cursor)
		return SLOT_NONE;
	place = cursor->place;
	tried = verifier_forget(0, place);
#pragma clang loop unroll(disable)
	for (int i = 0; i < PAIR_PROBES; i++) {
		__u32 number = (place / SLOTS_PER_WORD + stride) & layout.slot_word_mask;
		__u64 *word = bpf_map_lookup_elem(&flow_slots, &number);
		__u32 bit;

		if (!word)
			return SLOT_NONE;
		bit = word_free_pair(READ_ONCE(*word) | tried, place % SLOTS_PER_WORD) & ~1U;
		if (bit != SLOTS_PER_WORD && word_take_pair(word, number, bit % SLOTS_PER_WORD)) {
			cursor->place = (place & ~(SLOTS_PER_WORD - 1)) | (bit + 2) % SLOTS_PER_WORD;
			return number * SLOTS_PER_WORD + bit % SLOTS_PER_WORD;
		}
		tried |= 3ULL << bit % SLOTS_PER_WORD;
		if (bit == SLOTS_PER_WORD || i % PAIRS_OF_WORD == PAIRS_OF_WORD - 1) {
			place = (place & ~(SLOTS_PER_WORD - 1)) + SLOTS_PER_WORD;
			tried = verifier_forget(0, place);
		}
	}
	cursor->place = place;
	return SLOT_NONE;
}

#endif
