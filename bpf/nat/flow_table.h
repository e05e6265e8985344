/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The table of flows as a whole: the states of its records, and who gets a place in it, gives way, or leaves. */
#ifndef FASTNAT_NAT_FLOW_TABLE_H
#define FASTNAT_NAT_FLOW_TABLE_H

#include "flow_slots.h"
#include "limit.h"

/* Flows looked at for a half-open one that gives way. */
#define EVICTION_SAMPLES 32

static __always_inline struct mapping_counters *mapping_counters_of(__u32 id)
{
	return bpf_map_lookup_elem(&mapping_counters, &id);
}

/* A flow's state as the one word that atomic operations take. */
union flow_state_word {
	struct flow_state state;
	__u64 word;
};

union flow_counts_word {
	struct flow_counts counts;
	__u64 word;
};

static __always_inline struct flow_state flow_state(const struct flow *flow)
{
	union flow_state_word state = {.word = READ_ONCE(*(const __u64 *)&flow->state)};

	return state.state;
}

/* The state of the flow that was found; false: it has gone since, and perhaps another one has its slot. */
static __always_inline bool flow_reference_state(const struct flow_reference *reference, struct flow_state *state)
{
	*state = flow_state(reference->flow);
	return state->phase != FLOW_DEAD && entry_has_generation(reference->entry, state->generation);
}

static __always_inline bool flow_is_in(const struct flow *flow, struct flow_state state)
{
	union flow_state_word expected = {.state = state};

	return READ_ONCE(*(const __u64 *)&flow->state) == expected.word;
}

/* Turns the phase if the flow still is in `state`; false: it is not. */
static __always_inline bool flow_turn(struct flow *flow, struct flow_state state, enum flow_phase phase)
{
	union flow_state_word from = {.state = state};
	union flow_state_word to = {.state = {.phase = phase, .generation = state.generation}};

	return __sync_val_compare_and_swap((__u64 *)&flow->state, from.word, to.word) == from.word;
}

static __always_inline bool flow_is_cut(const struct flow *flow)
{
	return flow_state(flow).phase == FLOW_CUT;
}

/* Counts flows and half-open ones at once. What there was before. */
static __always_inline union flow_counts_word gauges_add(struct flow_gauges *gauges, __s32 flows, __s32 half_open)
{
	union flow_counts_word counts;

	counts.word = __sync_fetch_and_add((__u64 *)&gauges->counts, ((__u64)half_open << 32) + flows);
	return counts;
}

/* Ends the flow in `slot` if its state still is what its caller saw. Of several that try at once, the one that turns the phase
 * does the work. The index entries go first, the slot last: a slot in use again cannot be reached through an old entry. 0, or
 * -1 when the flow has changed or gone. */
__noinline int flow_end(__u32 slot, __u32 phase, __u32 generation)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);
	struct flow_state state = {.phase = phase, .generation = generation};
	struct mapping_counters *counters;
	__u64 original, reply;

	if (!flow || !gauges || state.phase == FLOW_DEAD || !flow_turn(flow, state, FLOW_DEAD))
		return -1;
	original = flow_hash(&flow->original.tuple);
	reply = flow_hash(&flow->reply.tuple);
	flow_index_remove(original, entry_make(original, slot, DIRECTION_ORIGINAL, state.generation));
	flow_index_remove(reply, entry_make(reply, slot, DIRECTION_REPLY, state.generation));
	flow_leave_places(slot);
	counters = mapping_counters_of(flow->original.mapping_id); /* last: then its id may be another mapping's */
	if (counters && !(flow->flags & FLOW_PATTERN))
		__sync_fetch_and_add(&counters->closed, 1);
	gauges_add(gauges, -1, state.phase == FLOW_HALF_OPEN ? -1 : 0);
	flow_slot_free(slot);
	return 0;
}

/* Ends the flow that was found. */
static __always_inline void flow_reference_end(const struct flow_reference *reference)
{
	struct flow_state state;

	if (flow_reference_state(reference, &state))
		flow_end(entry_slot(reference->entry), state.phase, state.generation);
}

/* Makes room for a half-open flow by ending another one, taken at random: under a flood every half-open flow has the same
 * chance, and open flows are never touched. */
static __always_inline int flow_evict_inlined(void)
{
	__u32 slots = (layout.slot_word_mask + 1) * SLOTS_PER_WORD;

	for (int i = 0; i < EVICTION_SAMPLES; i++) {
		__u32 slot = bpf_get_prandom_u32() & (slots - 1);
		struct flow *flow = bpf_map_lookup_elem(&flows, &slot);
		struct flow_state state;

		if (!flow)
			continue;
		state = flow_state(flow);
		if (state.phase == FLOW_HALF_OPEN && !flow_end(slot, state.phase, state.generation)) {
			flow_slot_prefer(slot); /* of a full table it is the only one that is free */
			return 0;
		}
	}
	return -1;
}

/* A call, which leaves the code of those out of the way that seldom come to it. */
__noinline int flow_evict(void)
{
	return flow_evict_inlined();
}

/* Takes a place among all flows and among the half-open ones, or says why there is none. `evict` ends a half-open flow. */
static __always_inline enum reason flow_admit_inlined(int (*evict)(void))
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct settings *limits = map_only_element(&settings);

	if (!gauges || !limits)
		return REASON_TABLE_FULL;
	if (READ_ONCE(gauges->counts.half_open) >= limits->max_half_open) {
		if (evict())
			return REASON_HALF_OPEN_FULL;
	} else if (READ_ONCE(gauges->counts.flows) >= limits->max_flows) {
		evict();
	}
	if (gauges_add(gauges, 1, 1).counts.flows < limits->max_flows)
		return REASON_NONE;
	gauges_add(gauges, -1, -1);
	return REASON_TABLE_FULL;
}

__noinline int flow_admit(void)
{
	return flow_admit_inlined(flow_evict_inlined);
}

static __always_inline void flow_dismiss(void)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);

	if (gauges)
		gauges_add(gauges, -1, -1);
}

#endif
