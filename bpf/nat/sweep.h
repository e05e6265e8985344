/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Ends idle flows from a kernel timer, with no process in user space. The table is swept in steps that are short (a softirq
 * holds its CPU) and far apart. */
#ifndef FASTNAT_NAT_SWEEP_H
#define FASTNAT_NAT_SWEEP_H

#include "host_socket.h"

/* One step looks at this many words of the slot bitmap at most, and at the flows of so many words that are not empty: 2,048
 * flows, about 0.2 ms. */
#define SWEEP_WORDS 4096
#define SWEEP_OCCUPIED_WORDS 32
#define SWEEP_STEP_NS (4 * 1000 * 1000ULL)
#define SWEEP_PAUSE_NS (1000 * 1000 * 1000ULL)

#define CLOCK_MONOTONIC 1

struct sweep_step {
	__u64 now;
	/* Both in one slot of the stack: a write to the second has the verifier forget the first, or it would follow each
	 * through all its values. */
	__u32 word;     /* to look at next */
	__u32 occupied; /* words with flows in them, so far */
	__u64 bits;     /* of the current word */
	struct timeouts timeouts;
	bool flushes; /* not a sweep: ends what `request` says, idle or not, and all words in one step */
	struct flush_request request;
};

static __always_inline __u32 flow_timeout(const struct flow *flow, struct flow_state state, const struct timeouts *timeouts)
{
	if (protocol_is_icmp(flow_protocol(flow)))
		return timeouts->icmp;
	if (!protocol_has_handshake(flow_protocol(flow)))
		return timeouts->udp;
	if (flow_is_closing(flow) || flow_flags(flow) & FLOW_PATTERN)
		return timeouts->tcp_closing;
	return state.phase == FLOW_OPEN ? timeouts->tcp_open : timeouts->tcp_half_open;
}

/* Time since the last packet of either direction, in units of 2^20 ns. */
static __always_inline __u32 flow_idle(const struct flow *flow, __u64 now)
{
	__u32 original = units_since(flow->original.last_seen, now), reply = units_since(flow->reply.last_seen, now);

	return original < reply ? original : reply;
}

static __always_inline bool flow_is_idle(const struct flow *flow, struct flow_state state, const struct sweep_step *step)
{
	__u64 idle = flow_idle(flow, step->now);

	return idle << 20 > flow_timeout(flow, state, &step->timeouts) * NS_PER_SECOND;
}

/* A pattern lives as long as one of its flows does, and that of all destinations as long as one of a single address: whatever
 * goes by a pattern keeps it from being idle. Called for each flow that the sweep leaves alive (RFC 4787, REQ-6). */
static __always_inline void pattern_keep(const struct flow *flow, __u32 slot, __u32 last_seen)
{
	__u32 parent = flow->parent;
	struct flow *pattern = parent == SLOT_NONE ? NULL : flow_at(parent);
	struct address source = {}, kept = {};

	if (!pattern || !(flow_flags(pattern) & FLOW_PATTERN) || (__s32)(last_seen - pattern->original.last_seen) <= 0)
		return;
	flow_source(flow, slot, &source);
	flow_source(pattern, parent, &kept);
	if (address_equal(&source, &kept))
		pattern->original.last_seen = last_seen;
}

/* The same for the endpoint that a hairpin leads to: what its container answers goes out by its port, too. */
__noinline int endpoint_keep(__u32 slot, __u32 last_seen)
{
	struct flow_reference pattern;
	struct flow *flow = flow_at(slot);
	struct tuple tuple = {};
	struct address container;

	if (!flow)
		return 0;
	flow_tuple(flow, slot, DIRECTION_REPLY, &tuple);
	container = tuple.source;
	flow_tuple(flow, slot, DIRECTION_ORIGINAL, &tuple);
	tuple.source_port = 0;
	address_set_any(&tuple.source, address_is_ipv4(&tuple.destination));
	if (!flow_find(&tuple, &pattern) || !(flow_flags(pattern.flow) & FLOW_PATTERN) ||
	    (__s32)(last_seen - pattern.flow->original.last_seen) <= 0)
		return 0;
	flow_source(pattern.flow, entry_slot(pattern.entry), &tuple.source);
	if (address_equal(&tuple.source, &container))
		pattern.flow->original.last_seen = last_seen;
	return 0;
}

/* The pattern of a connection that is established lives on however long that is silent. */
static __always_inline void flow_keep_pattern(const struct flow *flow, __u32 slot, struct flow_state state,
					      const struct sweep_step *step)
{
	bool lasts = protocol_has_handshake(flow_protocol(flow)) && state.phase == FLOW_OPEN && !flow_is_closing(flow) &&
		     !(flow_flags(flow) & FLOW_PATTERN);
	__u32 last_seen = (step->now >> 20) - (lasts ? 0 : flow_idle(flow, step->now));

	pattern_keep(flow, slot, last_seen);
	if (flow_flags(flow) & FLOW_TO_ENDPOINT)
		endpoint_keep(slot, last_seen);
}

static __always_inline bool flush_is_about(const struct flush_request *request, const struct flow *flow, __u32 slot)
{
	struct address source = {};

	if (request->by_source) {
		flow_source(flow, slot, &source);
		return address_equal(&source, &request->source);
	}
	return request->all || flow->original.mapping_id - request->mapping_id < request->mappings;
}

static __always_inline bool flush_wants(const struct flush_request *request, const struct flow *flow, __u32 slot)
{
	return flush_is_about(request, flow, slot) &&
	       (!request->drains || !protocol_has_handshake(flow_protocol(flow)) || flow_flags(flow) & FLOW_PATTERN);
}

/* A flow of this host's own connection need not be: without it, the stack itself answers both ends. An association cannot be
 * (net/sctp.h): it ends. */
static __always_inline bool flow_can_be_cut(const struct flow *flow)
{
	return flow_protocol(flow) == IPPROTO_TCP && !(flow_flags(flow) & (FLOW_PATTERN | FLOW_OF_HOST));
}

/* With the next segment of either end, both are told by RSTs (net/reset.h) that their connection is gone: the next hops are out
 * of date, so packets come to where the phase is looked at. The flow stays for the closing timeout, for what both still send; a
 * SYN begins the next one. A flow that is just being looked up a route goes on until that is out of date, 0.94 s. false: the
 * flow is another one by now, or cut. */
static __always_inline bool flow_cut(struct flow *flow, struct flow_state state)
{
	struct flow_gauges *gauges = map_only_element(&flow_gauges);

	if (state.phase == FLOW_CUT || !gauges || !flow_turn(flow, state, FLOW_CUT))
		return false;
	if (state.phase == FLOW_HALF_OPEN)
		gauges_add(gauges, kind_is_wide(state.kind), 0, -1);
	next_hop_expire(flow, &flow->original);
	next_hop_expire(flow, &flow->reply);
	return true;
}

/* Ends or cuts the flow that was found in `state`. It may have opened meanwhile: for a flush no reason to leave it. */
static __always_inline bool sweep_end(struct sweep_step *step, struct flow *flow, __u32 slot, struct flow_state state)
{
	struct flow_state opened = {.phase = FLOW_OPEN, .kind = state.kind, .generation = state.generation};

	if (step->request.cut && flow_can_be_cut(flow))
		return flow_cut(flow, state) || flow_cut(flow, opened);
	return !flow_end(slot, state.phase, state.generation) ||
	       (step->flushes && !flow_end(slot, FLOW_OPEN, state.generation));
}

static int sweep_slot(__u32 index, struct sweep_step *step)
{
	__u32 slot = step->word * SLOTS_PER_WORD + (index & 63);
	struct flow_state state;
	struct flow *flow;

	if (!(step->bits >> (index & 63) & 1))
		return 0;
	flow = flow_at(slot);
	if (!flow)
		return 0;
	state = flow_state(flow);
	if (state.phase == FLOW_DEAD) /* being made: its maker sees that mappings have changed (flow_withdraw) */
		return 0;
	if (step->flushes ? flush_wants(&step->request, flow, slot) : flow_is_idle(flow, state, step))
		step->request.ended += sweep_end(step, flow, slot, state);
	else if (!step->flushes)
		flow_keep_pattern(flow, slot, state, step);
	return 0;
}

static int sweep_word(__u32 index, struct sweep_step *step)
{
	__u64 *word = bpf_map_lookup_elem(&flow_slots, &step->word);

	if (!word) /* past the end */
		return 1;
	step->bits = READ_ONCE(*word);
	if (step->bits) {
		if (step->occupied++ >= SWEEP_OCCUPIED_WORDS && !step->flushes)
			return 1;
		bpf_loop(SLOTS_PER_WORD, sweep_slot, step, 0);
	}
	step->word++;
	return 0;
}

static int sweep_timer(void *map, __u32 *key, struct sweep *sweep)
{
	struct sweep_step step = {.now = bpf_ktime_get_ns(), .word = sweep->cursor};
	struct flow_gauges *gauges = map_only_element(&flow_gauges);
	struct settings *current = map_only_element(&settings);
	__u64 took;

	if (!current || !gauges)
		return 0;
	step.timeouts = current->timeouts;
	bpf_loop(SWEEP_WORDS, sweep_word, &step, 0);
	took = bpf_ktime_get_ns() - step.now;
	if (took > gauges->longest_sweep_step)
		gauges->longest_sweep_step = took;
	gauges->sweep_steps++;
	sweep->cursor = step.word > layout.slot_word_mask ? 0 : step.word;
	bpf_timer_start(&sweep->timer, sweep->cursor ? SWEEP_STEP_NS : SWEEP_PAUSE_NS, 0);
	return 0;
}

/* Starts the timer, or points a running one at this program's code. */
static __always_inline int sweep_arm(void)
{
	struct sweep *sweep = map_only_element(&sweeps);

	if (!sweep)
		return -1;
	bpf_timer_init(&sweep->timer, &sweeps, CLOCK_MONOTONIC); /* -EBUSY: it is already */
	if (bpf_timer_set_callback(&sweep->timer, sweep_timer))
		return -1;
	return bpf_timer_start(&sweep->timer, SWEEP_STEP_NS, 0);
}

/* Ends the flows that `request` asks for, all in one go: it runs in the context of a process, which can be preempted. */
static __always_inline void flush(struct flush_request *request)
{
	struct sweep_step step = {
		.flushes = true,
		.request = *request,
	};

	step.request.ended = 0;
	bpf_loop(layout.slot_word_mask + 1, sweep_word, &step, 0);
	request->ended = step.request.ended;
}

#endif
