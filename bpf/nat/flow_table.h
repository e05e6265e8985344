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
	__u32 word;
};

union flow_counts_word {
	struct flow_counts counts;
	__u64 word;
};

static __always_inline struct flow_state flow_state(const struct flow *flow)
{
	union flow_state_word state = {.word = READ_ONCE(*(const __u32 *)&flow->state)};

	return state.state;
}

/* The state of the flow that was found; false: it has gone since, and perhaps another one has its slot. */
static __always_inline bool flow_reference_state(const struct flow_reference *reference, struct flow_state *state)
{
	*state = flow_state(reference->flow);
	return state->phase != FLOW_DEAD && entry_has_generation(reference->entry, state->generation);
}

/* Turns the phase if the flow still is in `state`; false: it is not. */
static __always_inline bool flow_turn(struct flow *flow, struct flow_state state, enum flow_phase phase)
{
	union flow_state_word from = {.state = state};
	union flow_state_word to = {.state = {.phase = phase, .kind = state.kind, .generation = state.generation}};

	return __sync_val_compare_and_swap((__u32 *)&flow->state, from.word, to.word) == from.word;
}

static __always_inline bool flow_is_cut(const struct flow *flow)
{
	return flow_state(flow).phase == FLOW_CUT;
}

/* Places in the table that a flow takes. */
static __always_inline __u32 flow_places(__u32 wide)
{
	return 1 + wide;
}

/* Counts flows and half-open ones at once. What there was before. */
static __always_inline struct flow_counts gauges_add(struct flow_gauges *gauges, __u32 wide, __s32 flows, __s32 half_open)
{
	__u64 change = ((__u64)half_open << 32) + flows;
	union flow_counts_word counts;

	if (wide)
		__sync_fetch_and_add((__u64 *)&gauges->wide, change);
	counts.word = __sync_fetch_and_add((__u64 *)&gauges->counts, change * flow_places(wide));
	return counts.counts;
}

/* Takes a direction of a flow that is dead out of the index. */
static __always_inline void flow_leave_index(__u32 slot, enum direction direction, __u32 generation)
{
	__u64 hash = flow_direction_hash(slot, direction);

	flow_index_remove(hash, entry_make(hash, slot, direction, generation));
}

/* Ends the flow in `slot` if its state still is what its caller saw. Of several that try at once, the one that turns the phase
 * does the work. The index entries go first, the slot last: a slot in use again cannot be reached through an old entry. 0, or
 * -1 when the flow has changed or gone. */
__noinline int flow_end(__u32 slot, __u32 phase, __u32 generation)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct flow *flow = flow_at(slot);
	struct flow_state state = {.phase = phase, .kind = flow ? flow->state.kind : 0, .generation = generation};
	struct mapping_counters *counters;

	if (!flow || !gauges || state.phase == FLOW_DEAD || !flow_turn(flow, state, FLOW_DEAD))
		return -1;
	flow_leave_index(slot, DIRECTION_ORIGINAL, generation);
	flow_leave_index(slot, DIRECTION_REPLY, generation);
	flow_leave_places(slot);
	counters = mapping_counters_of(flow->original.mapping_id); /* last: then its id may be another mapping's */
	if (counters && !(flow_flags(flow) & FLOW_PATTERN))
		__sync_fetch_and_add(&counters->closed, 1);
	gauges_add(gauges, kind_is_wide(state.kind), -1, state.phase == FLOW_HALF_OPEN ? -1 : 0);
	flow_slots_free(flow, slot, kind_is_wide(state.kind));
	return 0;
}

/* Ends the flow that was found. */
static __always_inline void flow_reference_end(const struct flow_reference *reference)
{
	struct flow_state state;

	if (flow_reference_state(reference, &state))
		flow_end(entry_slot(reference->entry), state.phase, state.generation);
}

/* The flow that has `slot` for its addresses, or itself. */
static __always_inline __u32 slot_owner(__u32 slot)
{
	const struct flow *flow = flow_at(slot);

	return flow ? slot & (~1U | is_nonzero(flow->parent ^ ADDRESSES_MARK)) : slot;
}

/* Makes room for a half-open flow by ending others, taken at random: under a flood every place that one has gives it the same
 * chance, and open flows are never touched. How many places have become free, of so many. */
static __always_inline __u32 flow_evict_inlined(__u32 places)
{
	__u32 slots = (layout.slot_word_mask + 1) * SLOTS_PER_WORD, freed = 0;

	for (int i = 0; i < EVICTION_SAMPLES; i++) {
		__u32 slot = slot_owner(bpf_get_prandom_u32() & (slots - 1));
		struct flow *flow = flow_at(slot);
		struct flow_state state;

		if (!flow)
			continue;
		state = flow_state(flow);
		if (state.phase == FLOW_HALF_OPEN && !flow_end(slot, state.phase, state.generation)) {
			flow_slot_prefer(slot); /* of a full table it is the only one that is free */
			freed = verifier_forget(freed + flow_places(kind_is_wide(state.kind)), slot);
			if (freed >= places)
				break;
		}
	}
	return freed;
}

/* A call, which leaves the code of those out of the way that seldom come to it. */
__noinline __u32 flow_evict(__u32 places)
{
	return flow_evict_inlined(places);
}

/* Takes the places of a flow among all and among the half-open ones, or says why there are none. `evict` ends half-open flows.
 */
static __always_inline enum reason flow_admit_inlined(__u32 wide, __u32 (*evict)(__u32 places))
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct settings *limits = map_only_element(&settings);
	__u32 places = flow_places(wide);

	if (!gauges || !limits)
		return REASON_TABLE_FULL;
	if (READ_ONCE(gauges->counts.half_open) + places > limits->max_half_open) {
		if (!evict(places))
			return REASON_HALF_OPEN_FULL;
	} else if (READ_ONCE(gauges->counts.flows) + places > limits->max_flows) {
		evict(places);
	}
	if (gauges_add(gauges, wide, 1, 1).flows + places <= limits->max_flows)
		return REASON_NONE;
	gauges_add(gauges, wide, -1, -1);
	return REASON_TABLE_FULL;
}

__noinline int flow_admit(__u32 wide)
{
	return flow_admit_inlined(wide, flow_evict_inlined);
}

static __always_inline void flow_dismiss(__u32 wide)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);

	if (gauges)
		gauges_add(gauges, wide, -1, -1);
}

#endif
